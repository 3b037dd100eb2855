"""How well a model reads phantoms, measured against what was drawn.

Accuracy@t is the paper's: of all true boxes, the part that has a predicted box of the same label with an IoU
above t. It says nothing of boxes too many; box precision does. The IoU here is the plain one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from litegpt.boxes import Box
from litegpt.engine import Engine
from litegpt.findings import Reading
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import DIAGNOSES, NO_FINDING
from training.phantom.radiograph import DRAWN_LABELS, Phantom, phantoms

THRESHOLDS: Final = (0.3, 0.5)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is true of, or said about, one image."""

    boxes: tuple[tuple[str, Box], ...]
    diagnoses: frozenset[str]

    @property
    def labels(self) -> frozenset[str]:
        """The local labels."""
        return frozenset(label for label, _ in self.boxes)


@dataclass(frozen=True, slots=True)
class F1:
    """F1 of a set of labels: 2 true positives / (2 true positives + false ones + missed ones)."""

    by_label: Mapping[str, float]
    macro: float
    micro: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The measures over one set of images.

    Attributes:
        images: How many.
        local, diagnoses: F1 over the findings with boxes, and over the diagnoses.
        accuracy: By IoU threshold: the part of the true boxes that were found.
        accuracy_by_label: The same for each label at the highest threshold.
        precision: By IoU threshold: the part of the predicted boxes that are true.
        normal_as_normal: Of the images without finding, the part said to have none.
        abnormal_as_abnormal: Of the others, the part not said to have none.
    """

    images: int
    local: F1
    diagnoses: F1
    accuracy: Mapping[float, float]
    accuracy_by_label: Mapping[str, float]
    precision: Mapping[float, float]
    normal_as_normal: float
    abnormal_as_abnormal: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's scores on fresh phantoms, and how often its answers were malformed."""

    scores: Scores
    malformed: int
    answers: int

    @property
    def malformed_rate(self) -> float:
        """Unreadable pieces per answer."""
        return self.malformed / self.answers


def read_phantoms(
    engine: Engine, images: int, seed: int, batch_size: int = 32
) -> Iterator[tuple[Phantom, Reading]]:
    """Has a model read phantoms that no training has seen (training's seeds are of another form)."""
    stream = islice(phantoms(seed), images)
    while batch := list(islice(stream, batch_size)):
        readings = engine.read([Radiograph(phantom.pixels) for phantom in batch])
        yield from zip(batch, readings, strict=True)


def evaluation(results: Sequence[tuple[Phantom, Reading]]) -> Evaluation:
    """Measures readings of phantoms."""
    truths = [drawn(phantom) for phantom, _ in results]
    said = [stated(reading) for _, reading in results]
    malformed = sum(reading.malformed for _, reading in results)
    answers = sum(len(reading.answers) for _, reading in results)
    return Evaluation(score(truths, said), malformed, answers)


def drawn(phantom: Phantom) -> Statement:
    """The truth of a phantom."""
    boxes = tuple((finding.label, finding.box) for finding in phantom.findings)
    return Statement(boxes, frozenset(phantom.diagnoses))


def stated(reading: Reading) -> Statement:
    """What a model says of an image."""
    boxes = tuple((finding.label, finding.box) for finding in reading.findings if finding.box is not None)
    return Statement(boxes, frozenset(finding.label for finding in reading.findings if finding.box is None))


def score(truths: Sequence[Statement], said: Sequence[Statement]) -> Scores:
    """Measures statements against the truth, image by image."""
    pairs = list(zip(truths, said, strict=True))
    normal = [NO_FINDING in one.diagnoses for truth, one in pairs if NO_FINDING in truth.diagnoses]
    abnormal = [NO_FINDING not in one.diagnoses for truth, one in pairs if NO_FINDING not in truth.diagnoses]
    return Scores(
        images=len(pairs),
        local=f1(DRAWN_LABELS, [(truth.labels, one.labels) for truth, one in pairs]),
        diagnoses=f1(DIAGNOSES, [(truth.diagnoses, one.diagnoses) for truth, one in pairs]),
        accuracy={limit: _mean(hit for _, hit in matches(pairs, limit)) for limit in THRESHOLDS},
        accuracy_by_label={
            label: _mean(hit for name, hit in matches(pairs, THRESHOLDS[-1]) if name == label)
            for label in DRAWN_LABELS
        },
        precision={
            limit: _mean(hit for _, hit in matches([(one, truth) for truth, one in pairs], limit))
            for limit in THRESHOLDS
        },
        normal_as_normal=_mean(normal),
        abnormal_as_abnormal=_mean(abnormal),
    )


def matches(pairs: Iterable[tuple[Statement, Statement]], limit: float) -> Iterator[tuple[str, bool]]:
    """For each box of the first statements: its label, and whether the second has one like it.

    Args:
        pairs: Two statements about the same image.
        limit: The IoU to be exceeded.
    """
    for wanted, offered in pairs:
        for label, box in wanted.boxes:
            hit = any(name == label and box.iou(other) > limit for name, other in offered.boxes)
            yield label, hit


def f1(labels: Sequence[str], pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> F1:
    """F1 of sets of labels, (true, said) for each image; a label neither true nor said counts as 0."""
    by_label, hits, faults = {}, 0, 0
    for label in labels:
        hit = sum(label in truth and label in said for truth, said in pairs)
        fault = sum((label in truth) != (label in said) for truth, said in pairs)
        by_label[label] = 2 * hit / max(1, 2 * hit + fault)
        hits, faults = hits + hit, faults + fault
    return F1(by_label, _mean(by_label.values()), 2 * hits / max(1, 2 * hits + faults))


def guessing(phantoms_: Sequence[Phantom]) -> Scores:
    """What a guess by the right odds gives: for each phantom, the truth of the next one."""
    truths = [drawn(phantom) for phantom in phantoms_]
    return score(truths, [*truths[1:], *truths[:1]])


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
