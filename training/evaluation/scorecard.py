"""Measures as tables for a person, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from litegpt.vocabulary import NO_FINDING
from training.evaluation.average_precision import THRESHOLDS as PRECISION_THRESHOLDS
from training.evaluation.bootstrap import Path
from training.evaluation.classification import AVERAGES, FINDING, METRICS
from training.evaluation.froc import HIT, RATES
from training.evaluation.measures import Measures
from training.evaluation.published import THRESHOLDS
from training.evaluation.text import ORDERS, ROUGE

PAPER: Final[dict[Path, float]] = {
    **{("classification", "published", "combined", average, "f1"): 0.60 for average in AVERAGES},
    ("accuracy", "published", "0.3"): 0.1254,
    ("accuracy", "published", "0.5"): 0.0812,
}
"""LiteGPT on VinDr-CXR, arXiv 2407.12064."""

PAPER_NOTE: Final = (
    "The paper's numbers are of VinDr-CXR, real radiographs: numbers on phantoms are never comparable with "
    "them. Of which average its F1 is, it says nothing."
)

FROC_NOTE: Final = f"Sensitivity at r: of true boxes, at r false ones per image (FROC), IoU above {HIT}."

ROWS: Final[tuple[tuple[str, Path], ...]] = (
    *(
        (f"{mode} F1, {average}", ("classification", "exact", mode, average, "f1"))
        for mode in ("local", "diagnoses")
        for average in ("macro", "micro")
    ),
    *(
        (f"F1 by substring, {average}", ("classification", "published", "combined", average, "f1"))
        for average in AVERAGES
    ),
    ("local AUROC, mean", ("auroc", "local")),
    ("diagnoses AUROC, mean", ("auroc", "diagnoses")),
    *((f"recall of {label}", ("recall", label)) for label in (FINDING, NO_FINDING)),
    *((f"Accuracy@{limit}, published", ("accuracy", "published", str(limit))) for limit in THRESHOLDS),
    *((f"Accuracy@{limit}, plain IoU", ("accuracy", "plain", str(limit))) for limit in THRESHOLDS),
    *((f"box precision@{limit}", ("box precision", str(limit))) for limit in THRESHOLDS),
    ("mean IoU of true boxes", ("iou", "all")),
    *((f"mAP@{limit}", ("map", str(limit))) for limit in PRECISION_THRESHOLDS),
    *((f"sensitivity at {rate}", ("froc", str(rate))) for rate in RATES),
    ("sensitivity, mean", ("froc", "mean")),
    *((name.replace("rouge", "ROUGE-"), ("text", name)) for name in ROUGE),
    *((f"BLEU-{order}", ("text", f"bleu-{order}")) for order in ORDERS),
    ("METEOR", ("text", "meteor")),
    ("CIDEr", ("text", "cider")),
    ("CIDEr, arguments swapped", ("text", "cider, as published")),
    ("malformed answers", ("answers", "malformed")),
    ("malformed pieces per answer", ("answers", "malformed pieces")),
)
"""The measures of the first table, each with its path."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table before it is set for a screen or in Markdown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def sheets(measured: Measures, guessed: Measures) -> list[Sheet]:
    """Three tables: overall beside guessing and the paper, all averages of classification, each label."""
    return [_overall(measured, guessed), _averages(measured), _by_label(measured)]


def to_rich(shown: Sequence[Sheet]) -> Group:
    """For a terminal of 80 columns or more."""
    parts: list[RenderableType] = []
    for sheet in shown:
        table = Table(
            title=sheet.title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False
        )
        for number, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in sheet.rows:
            table.add_row(*row)
        parts += [table, *sheet.notes, ""]
    return Group(*parts)


def to_markdown(shown: Sequence[Sheet]) -> str:
    """For a document."""
    parts = []
    for sheet in shown:
        rule = ("---", *("---:" for _ in sheet.columns[1:]))
        lines = ["| " + " | ".join(row) + " |" for row in (sheet.columns, rule, *sheet.rows)]
        parts += [f"### {sheet.title}", "\n".join(lines), *sheet.notes]
    return "\n\n".join(parts)


def to_json(measured: Measures, guessed: Measures, run: Mapping[str, Any] | None = None) -> str:
    """All figures as one JSON object; the parts of a path are nested.

    Args:
        measured: Of the model.
        guessed: Of guessing.
        run: Which model read what, if that is to stand there too.
    """
    about = {"run": run} if run else {}
    paper = {"note": PAPER_NOTE, **_nested(PAPER)}
    figures = {"scores": _tree(measured), "guessing": _tree(guessed), "paper": paper}
    return json.dumps({**about, **figures}, indent=1)


def _overall(measured: Measures, guessed: Measures) -> Sheet:
    rows = []
    for name, path in ROWS:
        if path not in measured.estimates:
            rows.append((name, "not computed", "", "", ""))
            continue
        one, guess = measured.estimates[path], guessed.estimates.get(path)
        figure = partial(_figure, decimals=_decimals(path))
        interval = f"{figure(one.low)}–{figure(one.high)}" if one.low is not None else ""
        guessing = figure(guess.value if guess else None)
        rows.append((name, figure(one.value), interval, guessing, figure(PAPER.get(path))))
    reasons = [f"{name} is not computed: {reason}." for name, reason in measured.not_computed.items()]
    failed = []
    if measured.failed:
        failed = [f"{measured.failed} images could not be read: they count as if nothing was said of them."]
    return Sheet(
        f"{measured.images} images",
        ("measure", "model", "95 % interval", "guessing", "paper"),
        tuple(rows),
        (PAPER_NOTE, FROC_NOTE, *reasons, *failed),
    )


def _averages(measured: Measures) -> Sheet:
    rows = [
        (
            rule,
            mode,
            average,
            *(_at(measured, ("classification", rule, mode, average, metric)) for metric in METRICS),
        )
        for rule in ("exact", "published")
        for mode in ("local", "diagnoses", "combined")
        for average in AVERAGES
    ]
    return Sheet("classification", ("rule", "labels", "average", *METRICS), tuple(rows))


def _by_label(measured: Measures) -> Sheet:
    rows = []
    for label, support in measured.support.items():
        paths: list[Path] = [
            *(("classification", "exact", "label", label, metric) for metric in METRICS),
            ("auroc", "label", label),
            ("iou", "label", label),
            ("accuracy", "label", label),
            *(("ap", str(limit), label) for limit in PRECISION_THRESHOLDS),
        ]
        rows.append((label, str(support), *(_at(measured, path, decimals=2) for path in paths)))
    precisions = (f"AP@{limit}" for limit in PRECISION_THRESHOLDS)
    columns = (
        "label",
        "n",
        "P",
        "R",
        "F1",
        "AUROC",
        "IoU",
        f"Acc@{THRESHOLDS[-1]}",
        *precisions,
    )
    partly = [f"{label} {count}" for label, count in measured.judged.items() if count < measured.images]
    notes = (f"Judged on some of the images only, and measured on these: {', '.join(partly)}.",)
    return Sheet("by label", columns, tuple(rows), notes if partly else ())


def _at(measured: Measures, path: Path, decimals: int = 3) -> str:
    return _figure(measured.value(*path), decimals) if path in measured.estimates else ""


def _figure(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _decimals(path: Path) -> int:
    """Three of what ends at 1, two of what ends at 100."""
    return 2 if path[0] == "text" else 3


def _tree(measures: Measures) -> dict[str, Any]:
    return {
        "images": measures.images,
        "failed": measures.failed,
        "support": dict(measures.support),
        "judged": dict(measures.judged),
        "not_computed": dict(measures.not_computed),
        **_nested({path: asdict(one) for path, one in measures.estimates.items()}),
    }


def _nested(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        place = tree
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = leaf
    return tree
