"""Measures a model's operating point on images with known truth, and writes it into the model's folder."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from litegpt.boxes import Box
from litegpt.calibration_card import BelowAndSaid
from litegpt.findings import Finding, Reading
from litegpt.identity import config_values
from litegpt.model_config import ModelConfig
from litegpt.operating_point import OperatingPoint, raw_score
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from training.calibration import Examples, calibrate
from training.complete_file import complete_file
from training.evaluation.statements import Statement
from training.thresholds import Tally, thresholds

IOU: Final = 0.5
"""A box is right from this overlap on with a true box of its label."""

_CONFIG: Final = "config.json"
_KEY: Final = "operating_point"

Result = tuple[Statement, Reading]
"""What is true of an image, and the raw reading of it."""


def measure_operating_point(results: Sequence[Result], *, version: str, measured_on: str) -> OperatingPoint:
    """Fits the calibrations, then the thresholds on the calibrated scores.

    Images that the model failed on are left out. Labels that the truth never has say nothing about their
    scores and are left out of the calibration of ``label_scores``.

    Args:
        results: Truth and raw reading of each image of the validation split.
        version: The version that the model will have with this operating point.
        measured_on: The split in words.

    Raises:
        TrainingError: If too little was said to calibrate on.
    """
    read = [(truth, reading) for truth, reading in results if reading.failure is None]
    local_scores = _label_examples(read, LOCAL_LABELS, lambda truth: truth.labels)
    diagnosis_scores = _label_examples(read, DIAGNOSES, lambda truth: truth.diagnoses)
    uncut = OperatingPoint(
        version=version,
        measured_on=measured_on,
        images=len(read),
        findings=calibrate(_finding_examples(read, boxed=True)),
        diagnoses=calibrate(diagnosis_scores or _finding_examples(read, boxed=False)),
        local_labels=calibrate(local_scores) if local_scores else None,
    )
    calibrated = [(truth, uncut.apply(reading)) for truth, reading in read]
    local, too_few_local = thresholds(_local_tallies(calibrated))
    overall, too_few_overall = thresholds(_diagnosis_tallies(calibrated))
    return dataclasses.replace(
        uncut, thresholds={**local, **overall}, pooled=(*too_few_local, *too_few_overall)
    )


def below_thresholds(point: OperatingPoint, results: Sequence[Result]) -> dict[str, BelowAndSaid]:
    """By label: how many of its findings an operating point does not report, of how many."""
    findings = [finding for _, reading in results for finding in point.apply(reading).findings]
    said = Counter(finding.label for finding in findings)
    below = Counter(finding.label for finding in findings if not finding.reported)
    return {label: (below[label], count) for label, count in said.items()}


def write_operating_point(folder: Path, point: OperatingPoint) -> None:
    """Writes an operating point and its version into a folder's ``config.json``; all else stays as it is.

    Raises:
        ModelError: If the folder's configuration is not one that can be read.
    """
    values = {**config_values(folder), "version": point.version, _KEY: point.to_json()}
    ModelConfig.from_json(json.loads(json.dumps(values)))
    _write(folder, values)


def _write(folder: Path, values: dict[str, Any]) -> None:
    """All of it or nothing: a node that starts meanwhile finds the old configuration or the new one."""
    with complete_file(folder / _CONFIG) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _finding_examples(results: Sequence[Result], *, boxed: bool) -> Examples:
    """Every finding said, with a box or without."""
    return Examples.of(
        (raw_score(finding, reading), _is_right(finding, truth), image)
        for image, (truth, reading) in enumerate(results)
        for finding in reading.findings
        if (finding.box is not None) == boxed
    )


def _label_examples(
    results: Sequence[Result], labels: Sequence[str], true_labels: Callable[[Statement], frozenset[str]]
) -> Examples | None:
    """Each image's score of each of these labels that the truth ever has; None where there are no scores."""
    occurring = frozenset[str]().union(*(true_labels(truth) for truth, _ in results))
    rows = [
        (reading.label_scores[label], label in true_labels(truth), image)
        for image, (truth, reading) in enumerate(results)
        for label in labels
        if label in occurring and label in reading.label_scores
    ]
    return Examples.of(rows) if rows else None


def _is_right(finding: Finding, truth: Statement) -> bool:
    if finding.box is None:
        return finding.label in truth.diagnoses
    return any(label == finding.label and _alike(box, finding) for label, box in truth.boxes)


def _alike(box: Box, finding: Finding) -> bool:
    return finding.box is not None and box.iou(finding.box) >= IOU


def _local_tallies(results: Sequence[Result]) -> dict[str, Tally]:
    tallies = {label: Tally() for label in LOCAL_LABELS}
    for truth, reading in results:
        boxed = [finding for finding in reading.findings if finding.box is not None]
        for finding in boxed:
            tallies[finding.label].said.append((finding.score, _is_right(finding, truth)))
        for label, box in truth.boxes:
            like = [finding.score for finding in boxed if finding.label == label and _alike(box, finding)]
            tallies[label].found.append(max(like, default=-1.0))
    return tallies


def _diagnosis_tallies(results: Sequence[Result]) -> dict[str, Tally]:
    """ "No finding" has no threshold and is not among them."""
    tallies = {label: Tally() for label in DIAGNOSES if label != NO_FINDING}
    for truth, reading in results:
        said = {finding.label: finding.score for finding in reading.findings if finding.box is None}
        for label, tally in tallies.items():
            if label in said:
                tally.said.append((said[label], label in truth.diagnoses))
            if label in truth.diagnoses:
                tally.found.append(said.get(label, -1.0))
    return tallies
