"""A study's outcomes as one table, in Markdown and in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from training.errors import TrainingError
from training.study.outcome import FIGURES, Outcome, interval
from training.study.plan import Plan, Row

BEGIN: Final = "<!-- study: begin -->"
END: Final = "<!-- study: end -->"

_COSTS: Final = ("trained", "images", "min", "GFLOP/image", "peak MB")


def to_markdown(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Two tables: what each row reaches, with its 95 % interval over seeds, and what it costs."""
    rows = [(row, [one for one in outcomes if one.row == row.name]) for row in plan.rows]
    measured = _table(("row", "seeds", *FIGURES), [_reached(row, runs) for row, runs in rows])
    costs = _table(("row", *_COSTS), [_cost(row, runs) for row, runs in rows if row.stages])
    questions = "\n".join(f"- **{row.name}**: {row.question}" for row in plan.rows)
    failures = "".join(
        f"\n{one.row}, seed {one.seed}, {'left out' if one.left_out else 'failed'}: {one.failure}\n"
        for one in outcomes
        if one.failure
    )
    measured_on = f"{plan.title}. Measured on {plan.examination.title}."
    return f"{measured_on}\n\n{questions}\n\n{measured}\n\n{costs}\n{failures}"


def _reached(row: Row, runs: Sequence[Outcome]) -> list[str]:
    good = [one for one in runs if not one.failure]
    figures = [str(interval([one.figures.get(name) for one in good])) for name in FIGURES]
    return [row.name, str(len(good)), *figures]


def _cost(row: Row, runs: Sequence[Outcome]) -> list[str]:
    good = [one for one in runs if not one.failure]
    if not good:
        return [row.name, *("–" for _ in _COSTS)]
    memory = [one.peak_memory_bytes for one in good if one.peak_memory_bytes is not None]
    return [
        row.name,
        f"{good[0].trained_parameters:,}",
        f"{good[0].images:,}",
        f"{sum(one.seconds for one in good) / len(good) / 60:.1f}",
        f"{good[0].flops_per_image / 1e9:.2f}",
        f"{max(memory) / 1e6:,.0f}" if memory else "–",
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_tables(out: Path, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Writes ``study.md`` and ``study.json``."""
    values = {"plan": plan.model_dump(mode="json"), "outcomes": [asdict(one) for one in outcomes]}
    (out / "study.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (out / "study.md").write_text(to_markdown(plan, outcomes), encoding="utf-8")


def put_into(document: Path, text: str) -> None:
    """Replaces what stands between the two marks of a document.

    Raises:
        TrainingError: If it has no marks.
    """
    try:
        content = document.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{document} cannot be read: {error.strerror}") from None
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise TrainingError(f"{document} has no place for a study: {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
