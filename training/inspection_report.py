"""An inspection as tables for a person, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group
from rich.table import Table

from litegpt.vocabulary import LABELS
from training.datasets.problems import Kind, Problem, Tally
from training.inspection import Inspection

_NAMED: Final = 20
"""Readers named in the table, those of most images first."""


def report(inspection: Inspection, title: str) -> Group:
    """Three tables: overall numbers, labels, and problems by kind."""
    problems = _problems(inspection.tally) if inspection.tally.counts else "No problems."
    return Group(_overall(inspection, title), _labels(inspection), problems)


def problem_lines(tally: Tally) -> Iterator[str]:
    """The first problems of each kind, a line each, so that they can be searched."""
    for kind, count in tally.counts.items():
        first = tally.first(kind)
        yield f"{kind.label}:"
        yield from (f"  {problem}" for problem in first)
        if count > len(first):
            yield f"  and {count - len(first):,} more"


def to_json(inspection: Inspection, dataset: str, path: str) -> str:
    """The same as one JSON object."""
    tally = inspection.tally
    content: dict[str, Any] = {
        "dataset": dataset,
        "path": path,
        "images": inspection.images,
        "image_files": inspection.files,
        "patients": len(inspection.patients),
        "boxes": inspection.boxes,
        "rows": {str(file): rows for file, rows in tally.rows.items()},
        "readers": dict(inspection.readers),
        "readers_per_image": {str(number): images for number, images in sorted(inspection.readings.items())},
        "splits": dict(inspection.splits),
        "images_without_finding": inspection.normal,
        "images_without_label": inspection.silent,
        "labels": {
            label: {"images": inspection.images_by_label[label], "boxes": inspection.boxes_by_label[label]}
            for label in _said(inspection)
        },
        "problems": {kind.label: _problem_kind(kind, count, tally) for kind, count in tally.counts.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _problem_kind(kind: Kind, count: int, tally: Tally) -> dict[str, Any]:
    return {
        "count": count,
        "treatment": kind.treatment.value,
        "rule": kind.rule,
        "first": [_problem(problem) for problem in tally.first(kind)],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": str(problem.place.file),
        "line": problem.place.line,
        "column": problem.column,
        "words": problem.words,
    }


def _overall(inspection: Inspection, title: str) -> Table:
    table = Table("", "", title=title, show_header=False)
    for file, rows in inspection.tally.rows.items():
        table.add_row(f"rows of {file.name}", f"{rows:,}")
    table.add_row("images", f"{inspection.images:,}")
    beside = f"{inspection.files:,}" if inspection.files else "none beside the annotations"
    table.add_row("image files", beside)
    table.add_row("patients", f"{len(inspection.patients):,}")
    table.add_row("boxes", f"{inspection.boxes:,}")
    table.add_row("images without finding", f"{inspection.normal:,}")
    table.add_row("images without any label", f"{inspection.silent:,}")
    names = [reader for reader, _ in inspection.readers.most_common(_NAMED + 1)]
    more = [] if len(names) <= _NAMED else ["…"]
    table.add_row("readers", f"{len(inspection.readers):,}: {', '.join(names[:_NAMED] + more)}")
    for number, images in sorted(inspection.readings.items()):
        table.add_row(f"images read by {number}", f"{images:,}")
    for split, images in inspection.splits.items():
        table.add_row("images in no split" if split == "none" else f"images in {split}", f"{images:,}")
    return table


def _labels(inspection: Inspection) -> Table:
    table = Table("label", "images", "boxes", title="by label, of any reader")
    for label in _said(inspection):
        boxes = inspection.boxes_by_label[label]
        table.add_row(label, f"{inspection.images_by_label[label]:,}", f"{boxes:,}" if boxes else "")
    return table


def _said(inspection: Inspection) -> list[str]:
    """The labels that occur, in the vocabulary's order."""
    return [label for label in LABELS if inspection.images_by_label[label]]


def _problems(tally: Tally) -> Table:
    table = Table("problem", "count", "treatment", "rule", title="problems by kind")
    for kind, count in tally.counts.items():
        table.add_row(kind.label, f"{count:,}", kind.treatment.value, kind.rule)
    return table
