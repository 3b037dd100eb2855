"""All measures over one test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from litegpt.answers import read_diagnoses, read_findings
from litegpt.findings import Reading
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import LABELS, LOCAL_LABELS, NO_FINDING
from training.errors import TrainingError
from training.evaluation.auroc import Auroc
from training.evaluation.average_precision import AveragePrecision
from training.evaluation.bootstrap import Estimate, Measure, Path, Ratios, estimate
from training.evaluation.classification import Classification, modes, normality, with_finding
from training.evaluation.froc import Froc
from training.evaluation.localisation import overlaps
from training.evaluation.meteor import MISSING, wordnet_is_there
from training.evaluation.published import accuracy, labels_in
from training.evaluation.statements import Case, answered, stated, written
from training.evaluation.text import Bleu, likeness


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured.

    Attributes:
        images: How many images.
        failed: On how many of them the model failed; they count as images of which nothing was said.
        support: How many images have each label.
        estimates: By the path of each value.
        not_computed: What could not be measured, and why.
    """

    images: int
    failed: int
    support: Mapping[str, int]
    estimates: Mapping[Path, Estimate]
    not_computed: Mapping[str, str]

    def value(self, *path: str) -> float | None:
        """The value at a path; None where it is not defined.

        Raises:
            KeyError: If there is no such value.
        """
        return self.estimates[path].value


def evaluate(
    cases: Sequence[Case],
    readings: Sequence[Reading],
    *,
    labels: Sequence[str] = LABELS,
    resamples: int = 0,
    seed: int = 0,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Measures:
    """Measures readings against the truth.

    Args:
        cases: The test set.
        readings: One for each case, in the same order.
        labels: The labels of which the test set says whether they are there; no other is measured.
        resamples: How many draws the confidence intervals rest on; 0 for none.
        seed: Of the draws.
        track: Wraps the run over the draws, for a progress bar.

    Raises:
        TrainingError: If there is no case.
        ValueError: If cases and readings are not as many.
    """
    if not cases:
        raise TrainingError("there is no image to measure")
    if len(cases) != len(readings):
        raise ValueError(f"{len(cases)} cases, but {len(readings)} readings")
    measures, not_computed = measures_of(cases, readings, labels)
    return Measures(
        images=len(cases),
        failed=sum(reading.failure is not None for reading in readings),
        support={label: sum(label in case.truth.named for case in cases) for label in labels},
        estimates=estimate(measures, len(cases), resamples=resamples, seed=seed, track=track),
        not_computed=not_computed,
    )


def measures_of(
    cases: Sequence[Case], readings: Sequence[Reading], labels: Sequence[str]
) -> tuple[list[Measure], dict[str, str]]:
    """What can be measured of these readings, and what cannot, with the reason."""
    truths = [case.truth for case in cases]
    said = [stated(reading) for reading in readings]
    references = [written(case.truth, case.columns, case.rows) for case in cases]
    answers = [answered(reading, case) for reading, case in zip(readings, cases, strict=True)]
    local = [label for label in labels if label in LOCAL_LABELS]
    true, named = ([one.named for one in statements] for statements in (truths, said))
    measures: list[Measure] = [
        Classification("exact", modes(labels, finding=False), true, named),
        Classification(
            "published",
            modes(labels, finding=True),
            [with_finding(names) for names in true],
            [labels_in(one) for one in answers],
        ),
        accuracy(references, answers),
        overlaps(local, truths, said),
        AveragePrecision(local, truths, readings),
        Froc(local, truths, readings),
        likeness(answers, references),
        Bleu(answers, references),
        malformedness(readings),
    ]
    not_computed = {}
    if NO_FINDING in labels:
        measures.append(normality(true, named))
    if any(reading.label_scores for reading in readings):
        measures.append(Auroc(labels, true, [reading.label_scores for reading in readings]))
    else:
        not_computed["AUROC"] = "the readings have no score for every label"
    if not wordnet_is_there():
        not_computed["METEOR"] = MISSING
    return measures, not_computed


def malformedness(readings: Sequence[Reading]) -> Ratios:
    """The part of the answers of which a piece could not be read, and such pieces per answer."""
    readers = {IDENTIFY: read_findings, VQA: read_diagnoses}
    answers = [
        [read(one.answers[tag]).malformed > 0 for tag, read in readers.items() if tag in one.answers]
        for one in readings
    ]
    counts = np.array([len(one) for one in answers])  # (images,)
    return Ratios(
        {
            ("answers", "malformed"): (np.array([sum(one) for one in answers]), counts),
            ("answers", "malformed pieces"): (np.array([one.malformed for one in readings]), counts),
        }
    )
