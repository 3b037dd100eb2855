"""The engine: radiographs of any size in, findings in their own pixels out, a whole batch at a time.

    engine = Engine.load("phantom")
    readings = engine.read([read_radiograph(path)])

Each image is encoded once and asked both questions in one batch. Decoding is greedy, so the same image always
gets the same answer; it is held to the grammar of the answers, so that each can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import torch

from litegpt.answers import ReadAnswer, ReadLabel, read_diagnoses, read_findings
from litegpt.boxes import Box
from litegpt.constraint import Chooser, Unconstrained, constrained
from litegpt.decoding import AnswerDecoder
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.grammar import Grammar, compile_grammar
from litegpt.identity import ModelIdentity
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import prepare
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import LABELS

_PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Building a transformers model changes torch's default dtype for a moment, for all threads.
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer as it was generated.

    Attributes:
        text: Decoded, without EOS.
        token_ends: For each token, where in ``text`` its characters end.
        token_probabilities: For each token, the model's probability of it, given all before it; in
            constrained decoding, among the tokens that were legal.
        failed: Whether the answer breaks off because the model's numbers were NaN or infinite.
    """

    text: str
    token_ends: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    failed: bool = False

    def probability(self, start: int, end: int) -> float:
        """Probability of the text from character ``start`` to ``end``: product over its tokens."""
        product, token_start = 1.0, 0
        for token_end, probability in zip(self.token_ends, self.token_probabilities, strict=True):
            if token_start < end and start < token_end:
                product *= probability
            token_start = token_end
        return product


class Engine:
    """A loaded model that reads radiographs. ``read`` may be called by one thread at a time."""

    def __init__(self, loaded: LiteGPT, device: str, grammar: Grammar | None = None) -> None:
        """Args:
        loaded: The model, on its device.
        device: Which that is.
        grammar: What answers are held to, if anything.
        """
        self._config = loaded.config
        self._model = loaded.model
        self._preprocessings = loaded.preprocessings
        self._tokenizer = loaded.tokenizer
        self._device = device
        self._grammar = grammar
        self._dtype = next(loaded.model.parameters()).dtype
        instructions = loaded.config.instructions
        self._prompts = {tag: tokenise_prompt(loaded.tokenizer, instructions[tag]) for tag in (IDENTIFY, VQA)}

    @classmethod
    def load(
        cls,
        model: str | Path = "phantom",
        *,
        device: str | None = None,
        precision: str | None = None,
        constrained: bool = True,
    ) -> Engine:
        """Loads a model folder; safe to call from several threads at once.

        Args:
            model: ``"phantom"`` for the shipped demonstration, or a model folder.
            device: Such as ``cpu`` or ``cuda:0``; by default CUDA where there is one.
            precision: ``fp32``, ``bf16`` or ``fp16``; by default fp32 on the CPU, else bf16.
            constrained: Hold the answers to their grammar, so that none is ever malformed; the paper's model
                answers freely.

        Raises:
            ModelError: If the folder cannot be used, or device or precision make no sense here.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if chosen.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device {chosen} was asked for, but PyTorch finds no CUDA device")
        name = precision or ("fp32" if chosen == "cpu" else "bf16")
        if name not in _PRECISIONS:
            raise ModelError(f"precision {name!r} is not one of {', '.join(_PRECISIONS)}")
        with _loading:
            loaded = LiteGPT.from_pretrained(model, dtype=_PRECISIONS[name], device=chosen)
        if not constrained:
            return cls(loaded, chosen)
        grammar = compile_grammar(
            loaded.tokenizer,
            budget=loaded.config.max_new_tokens,
            ordered=loaded.config.ordered_answers,
            device=chosen,
        )
        return cls(loaded, chosen, grammar)

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks."""
        return self._config.identity

    def read(self, radiographs: Sequence[Radiograph]) -> list[Reading]:
        """Reads a batch, all of it at once.

        Args:
            radiographs: Display images of any sizes.

        Returns:
            One reading each, in the same order; boxes in pixels of each radiograph's own matrix.
        """
        if not radiographs:
            return []
        images = prepare(self._preprocessings, radiographs)  # each (batch, 3, size, size)
        answers = self._answer([image.to(self._device, self._dtype) for image in images])
        return [
            _reading(radiograph, identify, vqa)
            for radiograph, identify, vqa in zip(radiographs, answers[IDENTIFY], answers[VQA], strict=True)
        ]

    @torch.inference_mode()
    def _answer(self, images: Sequence[torch.Tensor]) -> dict[str, list[Generated]]:
        """Images, each (batch, 3, size, size), to the answers to each prompt."""
        batch, tags = len(images[0]), list(self._prompts)
        image = self._model.image_embeddings(images)  # (batch, 49, embedding)
        # The wrapper is the same for every prompt, so what comes before the image is, too.
        before = self._embed(self._prompts[tags[0]].before)  # (1, before, embedding)
        prefix = torch.cat(
            [before.expand(batch, -1, -1), image.to(before.dtype)], dim=1
        )  # (batch, before + 49, embedding)
        decoder = AnswerDecoder(self._model.language_model)
        logits = decoder.prefill(prefix, [self._embed(self._prompts[tag].after) for tag in tags])
        decoded = decoder.generate(
            logits, self._chooser(tags, batch), budget=self._config.max_new_tokens, pad=self._padding
        )
        rows = zip(decoded.ids.tolist(), decoded.probabilities.tolist(), decoded.failed.tolist(), strict=True)
        generated = [self._decode(*row) for row in rows]
        return {tag: generated[i * batch : (i + 1) * batch] for i, tag in enumerate(tags)}

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._model.embed_tokens(ids.to(self._device))  # (1, length, embedding)

    def _chooser(self, tags: list[str], batch: int) -> Chooser:
        if self._grammar is not None:
            return constrained(self._grammar, tags, batch)
        eos = cast(int, self._tokenizer.eos_token_id)
        return Unconstrained(len(tags) * batch, eos=eos, pad=self._padding, device=self._device)

    @property
    def _padding(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(self._tokenizer.eos_token_id if pad is None else pad)

    def _decode(self, ids: list[int], probabilities: list[float], failed: bool) -> Generated:
        if self._tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(self._tokenizer.eos_token_id)]
        # Prefix by prefix is right for every tokenizer, also where a token's text depends on its neighbours.
        texts = [str(self._tokenizer.decode(ids[:count])) for count in range(1, len(ids) + 1)]
        ends = tuple(len(text) for text in texts)
        return Generated(texts[-1] if texts else "", ends, tuple(probabilities[: len(ids)]), failed)


def _reading(radiograph: Radiograph, identify: Generated, vqa: Generated) -> Reading:
    answers = {IDENTIFY: identify.text, VQA: vqa.text}
    failed = [tag for tag, answer in ((IDENTIFY, identify), (VQA, vqa)) if answer.failed]
    if failed:
        asked = " and ".join(f"[{tag}]" for tag in failed)
        reason = f"the model's numbers became NaN or infinite in its answer to {asked}"
        return Reading((), answers, failure=reason)
    rows, columns = radiograph.pixels.shape
    local, overall = read_findings(identify.text), read_diagnoses(vqa.text)
    findings = [*_findings(local, identify, rows, columns), *_findings(overall, vqa, rows, columns)]
    findings.sort(key=_report_order)
    return Reading(
        findings=tuple(findings),
        answers=answers,
        malformed=local.malformed + overall.malformed,
    )


def _findings(answer: ReadAnswer, generated: Generated, rows: int, columns: int) -> list[Finding]:
    return [Finding(read.label, _score(read, generated), _box(read, rows, columns)) for read in answer.labels]


def _score(read: ReadLabel, generated: Generated) -> float:
    """Probability that this label is said here: of all tokens since the last statement, its name included."""
    return min(1.0, max(0.0, generated.probability(read.start, read.end)))


def _box(read: ReadLabel, rows: int, columns: int) -> Box | None:
    return None if read.box is None else Box.from_grid(read.box, columns, rows)


def _report_order(finding: Finding) -> tuple[bool, int, float, float]:
    """Boxes before diagnoses, the vocabulary's order, then top to bottom, left to right."""
    top, left = (finding.box.y_min, finding.box.x_min) if finding.box else (0.0, 0.0)
    return finding.box is None, LABELS.index(finding.label), top, left
