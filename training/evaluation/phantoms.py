"""A model measured on phantoms that no training has seen, against what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from litegpt.engine import Engine
from litegpt.findings import Reading
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import DIAGNOSES
from training.datasets.example import Size
from training.evaluation.measures import Measures, evaluate
from training.evaluation.statements import Case, Statement, repeating
from training.evaluation.subject import Subject
from training.phantom.choice import DRAWN_LABELS
from training.phantom.radiograph import Phantom, phantoms


def read_phantoms(
    engine: Engine,
    images: int,
    seed: int,
    *,
    drawn_labels: Sequence[str] = DRAWN_LABELS,
    candidates: bool = False,
) -> Iterator[tuple[Phantom, Reading]]:
    """Has a model read phantoms that no training has seen (training's seeds are of another form).

    Args:
        engine: The model.
        images: How many.
        seed: Of the phantoms.
        drawn_labels: The findings they can have.
        candidates: Whether to ask for boxes of labels that are not said, as ranked measures want them.
    """
    stream = islice(phantoms(seed, drawn_labels=drawn_labels), images)
    while batch := list(islice(stream, engine.batch_size)):
        shown = [Radiograph(phantom.pixels) for phantom in batch]
        readings = engine.read(shown, candidates=candidates)
        yield from zip(batch, readings, strict=True)


def drawn(phantom: Phantom) -> Statement:
    """The truth of a phantom."""
    boxes = tuple((finding.label, finding.box) for finding in phantom.findings)
    return Statement(boxes, frozenset(phantom.diagnoses))


def phantom_case(phantom: Phantom) -> Case:
    """A phantom as one image of a test set."""
    rows, columns = phantom.pixels.shape
    return Case(drawn(phantom), columns, rows)


def phantom_subjects(
    images: int, seed: int, *, drawn_labels: Sequence[str] = DRAWN_LABELS
) -> Iterator[Subject]:
    """The same phantoms, drawn one by one, as images to read; their names count them."""
    stream = islice(phantoms(seed, drawn_labels=drawn_labels), images)
    for number, phantom in enumerate(stream, start=1):
        rows, columns = phantom.pixels.shape
        yield Subject(
            image_id=f"phantom-{seed}-{number:06d}",
            truth=drawn(phantom),
            judged=frozenset((*drawn_labels, *DIAGNOSES)),
            load=partial(Radiograph, phantom.pixels),
            size=Size(columns, rows),
        )


def evaluation(
    results: Sequence[tuple[Phantom, Reading]],
    *,
    drawn_labels: Sequence[str] = DRAWN_LABELS,
    resamples: int = 0,
    seed: int = 0,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Measures:
    """Measures readings of phantoms that can have these findings (see ``evaluate``)."""
    return evaluate(
        [phantom_case(phantom) for phantom, _ in results],
        [reading for _, reading in results],
        labels=(*drawn_labels, *DIAGNOSES),
        resamples=resamples,
        seed=seed,
        track=track,
    )


def guessing(phantoms_: Sequence[Phantom], *, drawn_labels: Sequence[str] = DRAWN_LABELS) -> Measures:
    """What a guess by the right odds gives: for each phantom, the truth of the next one."""
    truths = [drawn(phantom) for phantom in phantoms_]
    guesses = [repeating(truth) for truth in [*truths[1:], *truths[:1]]]
    return evaluation(list(zip(phantoms_, guesses, strict=True)), drawn_labels=drawn_labels)
