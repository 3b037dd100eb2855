"""An evaluation as a table for a person, or as JSON."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Group
from rich.table import Table

from training.evaluation import THRESHOLDS, Evaluation, Scores


def scorecard(measured: Evaluation, guessed: Scores) -> Group:
    """Two tables: the overall figures beside those of guessing, and the figures of each label."""
    title = f"{measured.scores.images} fresh phantoms"
    overall = Table("measure", "model", "guessing", title=title)
    rows = _overall(measured.scores)
    for name, guess in _overall(guessed).items():
        overall.add_row(name, f"{rows[name]:.3f}", f"{guess:.3f}")
    overall.add_row("malformed pieces per answer", f"{measured.malformed_rate:.4f}", "")
    labels = Table("label", "F1", f"Accuracy@{THRESHOLDS[-1]}", title="by label")
    for label, value in measured.scores.local.by_label.items():
        labels.add_row(label, f"{value:.2f}", f"{measured.scores.accuracy_by_label[label]:.2f}")
    for label, value in measured.scores.diagnoses.by_label.items():
        labels.add_row(label, f"{value:.2f}", "")
    return Group(overall, labels)


def to_json(measured: Evaluation, guessed: Scores) -> str:
    """The same figures as one JSON object."""
    return json.dumps({**dataclasses.asdict(measured), "guessing": dataclasses.asdict(guessed)}, indent=1)


def _overall(scores: Scores) -> dict[str, float]:
    return {
        "local F1, macro": scores.local.macro,
        "local F1, micro": scores.local.micro,
        "diagnoses F1, macro": scores.diagnoses.macro,
        "diagnoses F1, micro": scores.diagnoses.micro,
        **{f"Accuracy@{limit}": scores.accuracy[limit] for limit in THRESHOLDS},
        **{f"box precision@{limit}": scores.precision[limit] for limit in THRESHOLDS},
        "normal read as normal": scores.normal_as_normal,
        "abnormal read as abnormal": scores.abnormal_as_abnormal,
    }
