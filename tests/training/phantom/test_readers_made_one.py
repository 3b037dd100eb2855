"""What the rules of agreement are for: of three readers they make one who is nearer to what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import ttest_rel

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LABELS
from training.agreement import BoxRule, LabelRule, agreed
from training.datasets.example import Example, MarkedFinding
from training.datasets.problems import Place
from training.phantom.radiograph import Phantom, phantoms
from training.phantom.readers import READERS, ReadingOfOne, SeenFinding, read_by_all

PHANTOMS, SEED = 240, 97
FOUND_IOU = 0.5
SURE = 0.01
"""Largest p of a paired, one-sided t-test over the phantoms."""

Found = Sequence[tuple[str, Box]]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How near one reading comes to the truth; each array is (phantoms,).

    Attributes:
        missed, wrong: Findings that were drawn and not given, and given and not drawn.
        overlap: Sum, over drawn findings, of the IoU with what was found; 0 for one that was missed.
        misjudged: Diagnoses that were wrongly given or not given.
    """

    missed: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.float64]
    overlap: npt.NDArray[np.float64]
    misjudged: npt.NDArray[np.float64]

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """Findings missed and wrong."""
        return self.missed + self.wrong


Reading = tuple[Found, frozenset[str]]
Rule = Callable[[Example], Reading]


def example_of(three: Sequence[ReadingOfOne]) -> Example:
    """What the dataset's reader makes of three readings."""
    marked = [MarkedFinding(f.label, f.box, one.reader) for one in three for f in one.findings]
    labels = {one.reader: frozenset({*one.diagnoses, *(f.label for f in one.findings)}) for one in three}
    return Example(
        dataset="phantom",
        image_id="a",
        image=None,
        patient="a",
        split="train",
        findings=tuple(marked),
        labels=labels,
        judged=frozenset(LABELS),
        place=Place(Path("a.csv")),
    )


def alone(reader: str, example: Example) -> Reading:
    """One reader's own reading."""
    found = [(finding.label, finding.box) for finding in example.findings if finding.reader == reader]
    return found, example.labels[reader]


def together(boxes: BoxRule, labels: LabelRule, example: Example) -> Reading:
    """What a rule makes of all three."""
    one = agreed(example, boxes, labels)
    return [(finding.label, finding.box) for finding in one.findings], one.said


def overlaps(drawn: Found, found: Found) -> list[float]:
    """IoU of each pair of a drawn and a found finding of the same label; each is in one pair at most."""
    # (drawn, found)
    iou = np.zeros((len(drawn), len(found)))
    for row, (label, box) in enumerate(drawn):
        for column, (other, other_box) in enumerate(found):
            iou[row, column] = box.iou(other_box) if label == other else 0.0
    iou[iou < FOUND_IOU] = 0
    pairs = linear_sum_assignment(iou, maximize=True)
    return [value for value in iou[pairs].tolist() if value > 0]


def recovery(truth: Sequence[Phantom], examples: Sequence[Example], rule: Rule) -> Recovery:
    """Compares a rule's readings with what was drawn."""
    rows = []
    for phantom, example in zip(truth, examples, strict=True):
        found, said = rule(example)
        pairs = overlaps([(finding.label, finding.box) for finding in phantom.findings], found)
        misjudged = (said & set(DIAGNOSES)) ^ set(phantom.diagnoses)
        rows.append((len(phantom.findings) - len(pairs), len(found) - len(pairs), sum(pairs), len(misjudged)))
    return Recovery(*np.array(rows, float).T)


RULES: dict[str, Rule] = {
    **{reader.name: partial(alone, reader.name) for reader in READERS},
    "wbf": partial(together, "wbf", "majority"),
    "majority": partial(together, "majority", "majority"),
}


def recovered(images: int, seed: int) -> dict[str, Recovery]:
    """What each reader alone and each rule recovers of the same phantoms."""
    truth = list(islice(phantoms(seed), images))
    examples = [
        example_of(read_by_all(one, np.random.default_rng((seed, number))))
        for number, one in enumerate(truth)
    ]
    return {name: recovery(truth, examples, rule) for name, rule in RULES.items()}


@pytest.fixture(scope="module")
def by() -> dict[str, Recovery]:
    return recovered(PHANTOMS, SEED)


def fewer(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Whether ``one`` is less than ``other``, phantom by phantom, by more than chance."""
    return float(ttest_rel(one, other, alternative="less").pvalue) < SURE


def test_nothing_is_missed_or_wrong_in_the_truth_itself() -> None:
    truth = list(islice(phantoms(SEED), 40))
    perfect = [
        example_of(
            [
                ReadingOfOne(
                    "R1",
                    tuple(SeenFinding(f.label, f.box, None) for f in one.findings),
                    one.diagnoses,
                )
            ]
        )
        for one in truth
    ]
    measured = recovery(truth, perfect, RULES["R1"])
    assert measured.errors.sum() == measured.misjudged.sum() == 0
    assert measured.overlap.sum() == pytest.approx(sum(len(one.findings) for one in truth))


def test_a_found_finding_counts_once_and_only_under_its_label() -> None:
    box, shifted, far = Box(0, 0, 10, 10), Box(2, 0, 12, 10), Box(6, 0, 16, 10)
    drawn = [("Edema", box), ("ILD", box)]
    # 80 / 120 = 0.67; the second of the same label is too many, and 40 / 160 too far off
    assert overlaps(drawn, [("Edema", shifted), ("Edema", shifted)]) == [pytest.approx(2 / 3)]
    assert overlaps(drawn, [("Edema", far), ("Lung cyst", box)]) == []


@pytest.mark.parametrize("reader", ["R1", "R2", "R3"])
def test_fusion_misses_less_and_places_boxes_better_than_any_one_reader(
    reader: str, by: dict[str, Recovery]
) -> None:
    assert fewer(by["wbf"].missed, by[reader].missed)
    assert fewer(by[reader].overlap, by["wbf"].overlap)


def test_a_majority_errs_less_than_a_reader_at_random(by: dict[str, Recovery]) -> None:
    """And than the most careful one, too, but so few phantoms cannot tell it from chance."""
    readers = [by[reader.name] for reader in READERS]
    # (phantoms,): of the three readers on average
    assert fewer(by["majority"].errors, np.mean([one.errors for one in readers], axis=0))
    assert fewer(by["majority"].misjudged, np.mean([one.misjudged for one in readers], axis=0))
    for one in readers[1:]:
        assert fewer(by["majority"].errors, one.errors)


def test_what_two_readers_give_is_wrong_less_often_than_what_one_gives(by: dict[str, Recovery]) -> None:
    assert fewer(by["majority"].wrong, by["wbf"].wrong)
