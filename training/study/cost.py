"""What a run costs: weights that learn, floating-point operations, memory."""

from __future__ import annotations

from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode

from litegpt.model_folder import LiteGPT
from training.batches import Teaching, make_batch
from training.complete_file import complete_file
from training.learner import Learner
from training.lessons import Lessons
from training.optimisers import choose_trained
from training.recipe import Recipe


def trained_parameters(loaded: LiteGPT, recipe: Recipe) -> int:
    """How many weights of the model the recipe teaches."""
    choose_trained(recipe, loaded.model)
    return sum(parameter.numel() for parameter in loaded.model.parameters() if parameter.requires_grad)


def flops_per_image(loaded: LiteGPT, recipe: Recipe, lessons: Lessons, images: int = 4) -> float:
    """Floating-point operations of learning from one image, forwards and backwards, as PyTorch counts them.

    A multiplication and an addition count as two. Only products of matrices and attention are counted.

    Args:
        loaded: The model; its gradients are cleared.
        recipe: What is learnt.
        lessons: From what; the first ``images`` of them.
        images: How many to take the mean of.
    """
    choose_trained(recipe, loaded.model)
    learner = Learner(loaded, recipe)
    batch = make_batch([lessons[index] for index in range(images)], Teaching.of(loaded, recipe))
    batch = batch.to(next(loaded.model.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        learner.weighted(learner(batch, 0)).backward()  # type: ignore[no-untyped-call]
    learner.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / images


def highest_ever(file: Path, now: int | None) -> int | None:
    """The highest number that a file was ever told, ``now`` included; a run may have several sittings."""
    before = int(file.read_text(encoding="ascii")) if file.is_file() else None
    highest = max((value for value in (before, now) if value is not None), default=None)
    if highest is not None and highest != before:
        with complete_file(file) as unfinished:
            unfinished.write_text(str(highest), encoding="ascii")
    return highest
