"""All measures over one test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from litegpt.answers import read_diagnoses, read_findings
from litegpt.findings import Reading
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from training.errors import TrainingError
from training.evaluation.auroc import Auroc
from training.evaluation.average_precision import AveragePrecision
from training.evaluation.bootstrap import Estimate, Measure, Path, Ratios, estimate
from training.evaluation.classification import FINDING, Classification, modes, normality, with_finding
from training.evaluation.froc import Froc
from training.evaluation.localisation import overlaps
from training.evaluation.meteor import MISSING, wordnet_is_there
from training.evaluation.published import accuracy, labels_in
from training.evaluation.statements import Answers, Case, answered, stated, with_comparable_boxes, written
from training.evaluation.text import Bleu, likeness


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured.

    Attributes:
        images: How many images.
        failed: On how many of them the model failed; they count as images of which nothing was said.
        support: How many images have each label.
        judged: On how many images each label was looked for; it is measured on these alone.
        estimates: By the path of each value.
        not_computed: What could not be measured, and why.
    """

    images: int
    failed: int
    support: Mapping[str, int]
    judged: Mapping[str, int]
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
        labels: The labels that are measured, each on the images on which it was judged.
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
        judged={label: sum(label in case.judged for case in cases) for label in labels},
        estimates=estimate(measures, len(cases), resamples=resamples, seed=seed, track=track),
        not_computed=not_computed,
    )


def measures_of(
    cases: Sequence[Case], readings: Sequence[Reading], labels: Sequence[str]
) -> tuple[list[Measure], dict[str, str]]:
    """What can be measured of these readings, and what cannot, with the reason."""
    judged = [case.judged for case in cases]
    answers = [answered(reading, case) for reading, case in zip(readings, cases, strict=True)]
    true = [case.truth.named & case.judged for case in cases]
    named = [stated(reading).named & case.judged for reading, case in zip(readings, cases, strict=True)]
    measures: list[Measure] = [
        Classification("exact", modes(labels, finding=False), true, named),
        Classification(
            "published",
            modes(labels, finding=True),
            [_with_finding(names, one) for names, one in zip(true, judged, strict=True)],
            [labels_in(answer) & _and_finding(one) for answer, one in zip(answers, judged, strict=True)],
        ),
        malformedness(readings),
    ]
    not_computed = {}
    if NO_FINDING in labels:
        asked = [NO_FINDING in one for one in judged]
        measures.append(normality(true, named, asked))
    if any(reading.label_scores for reading in readings):
        measures.append(Auroc(labels, true, [reading.label_scores for reading in readings], judged))
    else:
        not_computed["AUROC"] = "the readings have no score for every label"
    if reason := no_places(cases, labels):
        not_computed["Localisation"] = reason
    else:
        measures += localisation(cases, readings, answers, labels)
    if reason := no_texts(cases, labels):
        not_computed["Likeness of texts"] = reason
    else:
        references = [written(case.truth, case.columns, case.rows) for case in cases]
        measures += [likeness(answers, references), Bleu(answers, references)]
        if not wordnet_is_there():
            not_computed["METEOR"] = MISSING
    return measures, not_computed


def placed_labels(cases: Sequence[Case], labels: Sequence[str]) -> list[str]:
    """The local labels whose boxes the test set tells: not those that are there, but never anywhere."""
    placed = frozenset().union(*(case.truth.placed for case in cases))
    only_present = frozenset().union(*(case.truth.present for case in cases)) - placed
    return [label for label in labels if label in LOCAL_LABELS and label not in only_present]


def no_places(cases: Sequence[Case], labels: Sequence[str]) -> str | None:
    """Why nothing can be said of places, if so."""
    if any(case.truth.placed for case in cases) or not any(case.truth.present for case in cases):
        return None
    return "the test set has no box"


def no_texts(cases: Sequence[Case], labels: Sequence[str]) -> str | None:
    """Why the published labels' texts cannot be written, and so not compared, if so."""
    if reason := no_places(cases, labels):
        return f"the texts name findings by their boxes, and {reason}"
    local = [label for label in labels if label in LOCAL_LABELS]
    if missing := [label for label in local if label not in placed_labels(cases, labels)]:
        return f"the texts name findings by their boxes, and the test set has none of {', '.join(missing)}"
    if missing := [label for label in DIAGNOSES if label not in labels]:
        return f"the texts name all diagnoses, and the test set does not judge {', '.join(missing)}"
    return None


def localisation(
    cases: Sequence[Case], readings: Sequence[Reading], answers: Sequence[Answers], labels: Sequence[str]
) -> list[Measure]:
    """All that asks where: by the published rule, by reported boxes, and by ranked ones."""
    local = placed_labels(cases, labels)
    truths = [case.truth for case in cases]
    fair = [with_comparable_boxes(reading, case) for reading, case in zip(readings, cases, strict=True)]
    references = [written(case.truth, case.columns, case.rows) for case in cases]
    return [
        accuracy(references, answers),
        overlaps(local, truths, [stated(reading) for reading in fair]),
        AveragePrecision(local, truths, fair),
        Froc(local, truths, fair),
    ]


def _with_finding(names: frozenset[str], judged: frozenset[str]) -> frozenset[str]:
    """With the published code's ``Finding``, where anyone can tell."""
    return with_finding(names) if NO_FINDING in judged else names


def _and_finding(judged: frozenset[str]) -> frozenset[str]:
    return judged | {FINDING} if NO_FINDING in judged else judged


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
