"""The engine: radiographs of any size in, findings in their own pixels out, a whole batch at a time.

    engine = Engine.load("phantom")
    readings = engine.read([read_radiograph(path)])

Each image is encoded once and asked both questions in one batch. Decoding is greedy, so the same image always
gets the same answer; it is held to the grammar of the answers, so that each can be read. The batch is as
large as the device's memory allows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Generic, TypeVar

import torch

from litegpt.ahead import load_ahead
from litegpt.answering import Answered, Answerer, Statement
from litegpt.boxes import Box
from litegpt.errors import ModelError, RadiographError
from litegpt.findings import Finding, Reading
from litegpt.grammar import Grammar, compile_grammar
from litegpt.identity import ModelIdentity
from litegpt.model_folder import LiteGPT
from litegpt.operating_point import OperatingPoint
from litegpt.preprocessing import prepare, square_sizes, squash
from litegpt.radiograph import Radiograph
from litegpt.squares import SquashedImage
from litegpt.stopwatch import Stopwatch
from litegpt.vocabulary import LABELS

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Building a transformers model changes torch's default dtype for a moment, for all threads.
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Read(Generic[Item]):
    """What became of one image that was to be loaded and read.

    Attributes:
        item: What was to be loaded.
        came: What the model says of it, or why it could not be loaded.
    """

    item: Item
    came: Reading | RadiographError | OSError


class Engine:
    """A loaded model that reads radiographs. It may be used by one thread at a time."""

    def __init__(
        self,
        loaded: LiteGPT,
        device: str,
        grammar: Grammar | None = None,
        operating_point: OperatingPoint | None = None,
        stopwatch: Stopwatch | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Args:
        loaded: The model, on its device.
        device: Which that is.
        grammar: What answers are held to, if anything.
        operating_point: Applied to every reading, if there is one.
        stopwatch: Told how long each stage takes.
        batch_size: Images at once; by default what memory allows.
        """
        self._identity = loaded.config.identity
        self._preprocessings = loaded.preprocessings
        self._device = device
        self._dtype = next(loaded.model.parameters()).dtype
        self._operating_point = operating_point
        self._stopwatch = stopwatch or Stopwatch()
        self._answerer = Answerer(loaded, device, grammar, self._stopwatch)
        self._batch_size = batch_size or self._answerer.planned_batch()

    @classmethod
    def load(
        cls,
        model: str | Path = "phantom",
        *,
        device: str | None = None,
        precision: str | None = None,
        constrained: bool = True,
        calibrated: bool = True,
        stopwatch: Stopwatch | None = None,
    ) -> Engine:
        """Loads a model folder; safe to call from several threads at once.

        Args:
            model: ``"phantom"`` for the shipped demonstration, or a model folder.
            device: Such as ``cpu`` or ``cuda:0``; by default CUDA where there is one.
            precision: ``fp32``, ``bf16`` or ``fp16``; by default fp32 on the CPU, else bf16.
            constrained: Hold the answers to their grammar, so that none is ever malformed; the paper's model
                answers freely.
            calibrated: Apply the model's operating point, if it has one; it was measured on constrained
                answers and never applies to others.
            stopwatch: Told how long each stage takes.

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
        config = loaded.config
        grammar = None
        if constrained:
            budget, ordered = config.max_new_tokens, config.ordered_answers
            grammar = compile_grammar(loaded.tokenizer, budget=budget, ordered=ordered, device=chosen)
        operating_point = config.operating_point if constrained and calibrated else None
        return cls(loaded, chosen, grammar, operating_point, stopwatch)

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks."""
        return self._identity

    @property
    def square_sizes(self) -> tuple[int, ...]:
        """Sides of the squares that it sees, in pixels: what ``squares.read_squares`` is asked for."""
        return square_sizes(self._preprocessings)

    @property
    def batch_size(self) -> int:
        """Images read at once: as many as memory was planned for, fewer after it ran out."""
        return self._batch_size

    def read(
        self, radiographs: Sequence[Radiograph | SquashedImage], *, candidates: bool = False
    ) -> list[Reading]:
        """Reads radiographs, as many at once as memory allows.

        Args:
            radiographs: Display images of any sizes, or their squares of ``square_sizes``.
            candidates: Whether to look for a box for every label that is not said but is not quite
                impossible: ranked measures ask for them, a report does not.

        Returns:
            One reading each, in the same order; boxes in pixels of each radiograph's own matrix.

        Raises:
            ModelError: If squares have other sizes.
            torch.OutOfMemoryError: If not even one image fits.
        """
        with self._stopwatch.stage("squash"):
            images = [self._squashed(radiograph) for radiograph in radiographs]
        return self._read(images, candidates=candidates)

    def read_ahead(
        self,
        items: Iterable[Item],
        load: Callable[[Item], Radiograph | SquashedImage],
        *,
        candidates: bool = False,
    ) -> Iterator[Read[Item]]:
        """Loads images in the background while others are read.

        Args:
            items: Of any kind, such as paths.
            load: Gets the radiograph of an item, or its squares of ``square_sizes``; called in other threads.
            candidates: As of ``read``.

        Yields:
            What became of each item, in the same order, batch by batch.
        """

        def squashed(item: Item) -> SquashedImage:
            return self._squashed(load(item))

        loading = load_ahead(items, squashed, self._batch_size)
        while batch := list(islice(loading, self._batch_size)):
            loaded = [(item, _result(wait)) for item, wait in batch]
            images = [image for _, image in loaded if isinstance(image, SquashedImage)]
            readings = iter(self._read(images, candidates=candidates))
            for item, came in loaded:
                yield Read(item, next(readings) if isinstance(came, SquashedImage) else came)

    def _squashed(self, image: Radiograph | SquashedImage) -> SquashedImage:
        if isinstance(image, Radiograph):
            return squash(self._preprocessings, image)
        shapes = [square.shape for square in image.squares]
        if shapes != [(size, size) for size in self.square_sizes]:
            raise ModelError(f"squares of {shapes} pixels were made for another model")
        return image

    def _read(self, images: Sequence[SquashedImage], *, candidates: bool) -> list[Reading]:
        readings: list[Reading] = []
        while len(readings) < len(images):
            batch = images[len(readings) : len(readings) + self._batch_size]
            try:
                readings += self._read_batch(batch, candidates=candidates)
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            # Outside of the handler: the error holds on to what the failed batch had in memory.
            self._batch_size = len(batch) // 2
            log.warning("no memory for %d images at once; going on with %d", len(batch), self._batch_size)
            torch.cuda.empty_cache()
        return readings

    def _read_batch(self, images: Sequence[SquashedImage], *, candidates: bool) -> list[Reading]:
        with self._stopwatch.stage("prepare"):
            prepared = prepare(self._preprocessings, images, self._device)  # each (batch, 3, size, size)
            tensors = [tensor.to(self._dtype) for tensor in prepared]
        answered = self._answerer.answer(tensors, candidates=candidates)
        readings = [_reading(*each) for each in zip(images, answered, strict=True)]
        point = self._operating_point
        return readings if point is None else [point.apply(reading) for reading in readings]


def _result(wait: Callable[[], SquashedImage]) -> SquashedImage | RadiographError | OSError:
    try:
        return wait()
    except (RadiographError, OSError) as error:
        return error


def _reading(image: SquashedImage, answered: Answered) -> Reading:
    if answered.failed:
        asked = " and ".join(f"[{tag}]" for tag in answered.failed)
        reason = f"the model's numbers became NaN or infinite in its answer to {asked}"
        return Reading((), answered.answers, failure=reason)

    def findings(statements: Sequence[Statement]) -> tuple[Finding, ...]:
        return tuple(sorted((_finding(said, image) for said in statements), key=_report_order))

    return Reading(
        findings=findings(answered.statements),
        answers=answered.answers,
        malformed=answered.malformed,
        label_scores=answered.label_scores,
        candidates=findings(answered.candidates),
    )


def _finding(said: Statement, image: SquashedImage) -> Finding:
    box = None if said.box is None else Box.from_grid(said.box, image.columns, image.rows)
    return Finding(said.label, said.score, box, said.box_score)


def _report_order(finding: Finding) -> tuple[bool, int, float, float]:
    """Boxes before diagnoses, the vocabulary's order, then top to bottom, left to right."""
    top, left = (finding.box.y_min, finding.box.x_min) if finding.box else (0.0, 0.0)
    return finding.box is None, LABELS.index(finding.label), top, left
