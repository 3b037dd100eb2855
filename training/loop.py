"""The one training loop. It knows stages, batches and losses; it does not know where weights are kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from litegpt.model_folder import LiteGPT
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.tokenizer import number_token
from training.batches import IGNORED, Batch, batches
from training.dense import DenseHead, dense_loss
from training.errors import TrainingError
from training.losses import answer_loss, near_numbers
from training.optimisers import Optimisers, choose_trained
from training.stages import STAGES, Stage

logger = logging.getLogger(__name__)

NEAR_NUMBER_SIGMA = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is, told after each step.

    Attributes:
        stage: Its name.
        images: Learnt from so far.
        total: Images of the whole stage.
        seconds: Since the stage began.
        rate: Learning rate.
        loss: Weighted sum of this step's losses.
        dense, identify, vqa: This step's losses, unweighted; 0 where not used.
    """

    stage: str
    images: int
    total: int
    seconds: float
    rate: float
    loss: float
    dense: float
    identify: float
    vqa: float


class Learner:
    """A model with what it needs to learn: its prompts and the dense head."""

    def __init__(self, loaded: LiteGPT) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.preprocessing = loaded.preprocessings[0]
        self.prompts = {
            tag: tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag]) for tag in (IDENTIFY, VQA)
        }
        self.head = DenseHead(int(loaded.model.projection.fc1.in_features // loaded.model.projection.group))
        first = loaded.tokenizer.convert_tokens_to_ids(number_token(0))
        # Llama-2's tokenizer writes numbers in digits, and says of any token it has not that it is <unk>.
        unknown = loaded.tokenizer.unk_token_id
        self._first_number = first if isinstance(first, int) and first != unknown else None
        self._near = near_numbers(NEAR_NUMBER_SIGMA)

    def losses(self, batch: Batch, stage: Stage) -> dict[str, torch.Tensor]:
        """The losses that the stage uses, by name, unweighted."""
        images = self.preprocessing.normalise(batch.squares)  # (batch, 3, 224, 224)
        with torch.set_grad_enabled(stage.trains_encoders):
            tokens = self.model.visual_tokens(images)  # (batch, 245, width)
        losses = {}
        if stage.dense_weight:
            losses["dense"] = dense_loss(
                self.head, tokens, batch.cell_labels, batch.cell_boxes, batch.diagnosis_labels
            )
        if stage.trains_answers:
            embeddings = self.model.projection(tokens)  # (batch, 49, embedding)
            # The secondary prompt learns from half of the batch: its answer is short and soon known.
            half = len(embeddings) // 2
            if stage.identify_weight:
                count = half if stage.identify_weight < stage.vqa_weight else len(embeddings)
                losses[IDENTIFY] = self._answer_loss(embeddings[:count], IDENTIFY, batch.findings[:count])
            if stage.vqa_weight:
                count = half if stage.vqa_weight < stage.identify_weight else len(embeddings)
                losses[VQA] = self._answer_loss(embeddings[:count], VQA, batch.diagnoses[:count])
        return losses

    def _answer_loss(self, embeddings: torch.Tensor, tag: str, answers: torch.Tensor) -> torch.Tensor:
        forced = answers.masked_fill(answers == IGNORED, int(self.tokenizer.pad_token_id or 0))
        logits = self.model.answer_logits(
            embeddings, self.prompts[tag], forced
        )  # (batch, length, vocabulary)
        return answer_loss(logits, answers, self._first_number, self._near)


def run_stage(learner: Learner, stage: Stage, *, seed: int, report: Callable[[Progress], None]) -> None:
    """Trains one stage in bfloat16 autocast, on the CPU.

    The phantoms depend on seed and stage only. Where ``stage.minutes`` ends the stage early, how many were
    seen depends on the machine.

    Raises:
        TrainingError: If the loss is no number any more.
    """
    choose_trained(stage, learner.model)
    optimisers = Optimisers(stage, learner.model, learner.head)
    position = [known.name for known in STAGES].index(stage.name)
    stream = batches(learner.tokenizer, stage.batch_size, (seed, position))
    learner.model.train()
    torch.manual_seed(seed + position)
    start, step, seen, progress = time.monotonic(), 0, 0, 0.0
    while progress < 1:
        with torch.autocast("cpu", torch.bfloat16):
            losses = learner.losses(next(stream), stage)
        loss = sum((_weights(stage)[name] * value for name, value in losses.items()), torch.zeros(()))
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the loss of stage {stage.name} is {loss.item()} after {seen} images")
        loss.backward()  # type: ignore[no-untyped-call]
        rate = optimisers.step(step, progress)
        step, seen = step + 1, seen + stage.batch_size
        seconds = time.monotonic() - start
        progress = seen / stage.images
        if stage.minutes is not None:
            progress = max(progress, seconds / 60 / stage.minutes)
        values = {name: losses[name].item() if name in losses else 0.0 for name in _weights(stage)}
        report(Progress(stage.name, seen, stage.images, seconds, rate, loss.item(), **values))
    learner.model.eval()
    logger.info("stage %s: %d images in %.1f minutes", stage.name, seen, seconds / 60)


def _weights(stage: Stage) -> dict[str, float]:
    return {"dense": stage.dense_weight, IDENTIFY: stage.identify_weight, VQA: stage.vqa_weight}
