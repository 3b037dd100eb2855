"""An operating point as tables for a person: how good the scores are, and which of them are reported."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table

from litegpt.operating_point import OperatingPoint

BelowAndSaid = tuple[int, int]
"""How many findings of a label fell below its threshold, of how many."""


def calibration_card(point: OperatingPoint, below: Mapping[str, BelowAndSaid] | None = None) -> Group:
    """Two tables: the calibrations with their errors, and the thresholds.

    Args:
        point: What was measured.
        below: By label, where it is to be shown beside the thresholds.
    """
    title = f"operating point of version {point.version}, measured on {point.measured_on}"
    maps = Table("scores of", "method", "examples", "right", "ECE before", "ECE after", title=title)
    for name, calibration in (
        ("findings with boxes", point.findings),
        ("diagnoses", point.diagnoses),
        ("local labels", point.local_labels),
    ):
        if calibration is not None:
            counts = str(calibration.examples), str(calibration.right)
            errors = f"{calibration.ece_before:.3f}", f"{calibration.ece_after:.3f}"
            maps.add_row(name, calibration.method, *counts, *errors)
    thresholds = Table("label", "reported from", *(["below, of those said"] if below is not None else []))
    if point.pooled:
        thresholds.caption = "* too few examples of its own: as all labels together"
    for label, threshold in point.thresholds.items():
        row = [label, (f"{threshold:.2f}" if threshold else "always") + " *" * (label in point.pooled)]
        if below is not None:
            row.append("{} of {}".format(*below.get(label, (0, 0))))
        thresholds.add_row(*row)
    return Group(maps, thresholds)
