"""What was measured, as tables for people (Markdown) and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Final

from rich.box import MARKDOWN
from rich.table import Table

from benchmarks.comparison import Comparison
from benchmarks.machine import device_name
from benchmarks.rounds import Entry, Spread

_STAGES: Final = {
    "preprocess": ("squash", "prepare"),
    "encode": ("encode",),
    "prefill": ("prefill",),
    "generate": ("generate",),
    "score": ("score",),
    "parse": ("parse",),
}
"""Columns of the time split, and the engine's stages in each."""

_ARITHMETIC: Final = "arithmetic"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that was measured and worked out."""
    return {
        "model": comparison.model,
        "precision": comparison.precision,
        "device": device_name(comparison.rounds.device),
        "parameters": comparison.parameters,
        "attainable": {**asdict(comparison.peak), "source": comparison.peak_source},
        "published_limits": {
            str(sequences): limit.images_per_second
            for sequences, limit in comparison.published_limits.items()
        },
        "load_average": comparison.rounds.load,
        "milliseconds_to_read_a_file": _spread([1000 * each for each in comparison.rounds.file_seconds]),
        "entries": [_entry(comparison, entry) for entry in comparison.rounds.measured],
        "goals": [{**asdict(goal), "met": goal.met} for goal in comparison.goals()],
    }


def tables(comparison: Comparison) -> Iterator[Table | str]:
    """For people, in Markdown."""
    precision, parameters = comparison.precision, comparison.parameters / 1e6
    device, load = device_name(comparison.rounds.device), Spread.of(comparison.rounds.load)
    yield (
        f"\n{comparison.model}, {parameters:,.1f} million parameters, {precision}, on {device}; load average "
        f"{load.least:.1f} to {load.most:.1f}\n"
    )
    yield _rates(comparison)
    yield "\nMilliseconds an image\n"
    yield _split(comparison)
    if comparison.published_limits:
        yield "\nLimit of the published way on this device, images/s: " + ", ".join(
            f"{limit.images_per_second:.3g} at {sequences}"
            for sequences, limit in comparison.published_limits.items()
        )
    for goal in comparison.goals():
        met = "reached" if goal.met else "NOT reached"
        yield f"\nGoal: {goal.text}: at least {goal.wanted:g}; {goal.reached:.2f}, {met}"


def _rates(comparison: Comparison) -> Table:
    entries = comparison.rounds.measured
    kinds = [*dict.fromkeys(kind for entry in entries for kind in entry.limits), _ARITHMETIC]
    table = Table(
        "who",
        "batch",
        "images/s",
        "tokens/s",
        "forced",
        "memory",
        "times generate",
        *(f"limit: {kind}" for kind in kinds),
        box=MARKDOWN,
    )
    for entry in entries:
        limits = _limits(comparison, entry)
        tokens = entry.samples[-1].tokens
        table.add_row(
            entry.contender.name,
            f"{entry.contender.batch}{'' if entry.contender.fits else ', did not fit'}",
            _with_range(entry.images_per_second),
            f"{median(entry.tokens_per_second):.0f}",
            f"{1 - tokens.stepped / tokens.said:.0%}",
            "–" if (memory := _memory(entry)) is None else f"{memory / 1e9:.2f} GB",
            _with_range(entry.ratios) if entry.ratios else "",
            *(_reached(entry, limits[kind]) if kind in limits else "" for kind in kinds),
        )
    return table


def _split(comparison: Comparison) -> Table:
    table = Table("who", "batch", "file", *_STAGES, "rest", box=MARKDOWN)
    file = 1000 * median(comparison.rounds.file_seconds)
    for entry in comparison.rounds.measured:
        split = _milliseconds(entry)
        table.add_row(
            entry.contender.name,
            str(entry.contender.batch),
            f"{file:.2f}",
            *(f"{split[stage]:.2f}" if stage in split else "" for stage in (*_STAGES, "rest")),
        )
    return table


def _entry(comparison: Comparison, entry: Entry) -> dict[str, Any]:
    tokens = entry.samples[-1].tokens
    rates = median(entry.images_per_second)
    values: dict[str, Any] = {
        "who": entry.contender.name,
        "batch": entry.contender.batch,
        "fits_memory": entry.contender.fits,
        "images": entry.images,
        "images_per_second": _spread(entry.images_per_second),
        "tokens_per_second": _spread(entry.tokens_per_second),
        "answer_tokens": tokens.said,
        "answer_tokens_with_a_step_of_their_own": tokens.stepped,
        "memory_bytes": _memory(entry),
        "milliseconds_an_image": _milliseconds(entry),
        "flops_an_image": entry.flops,
        "limits_images_per_second": {
            kind: {"limit": limit, "reached": rates / limit}
            for kind, limit in _limits(comparison, entry).items()
        },
    }
    if entry.rival is not None and entry.ratios:
        rival = entry.rival.contender
        values["times_as_fast"] = {"as": rival.name, "batch": rival.batch, **_spread(entry.ratios)}
        if comparison.same_answers:
            values["same_answers"] = entry.alike
    return values


def _limits(comparison: Comparison, entry: Entry) -> dict[str, float]:
    """Images/s at most: what was worked out beforehand, and by the matrix products that were counted."""
    return {**entry.limits, _ARITHMETIC: comparison.peak.flops / entry.flops}


def _milliseconds(entry: Entry) -> dict[str, float]:
    """Of one image, by column of the time split; medians over the rounds."""
    samples = entry.samples
    seconds = {
        column: median(sum(sample.stages.get(stage, 0.0) for stage in stages) for sample in samples)
        for column, stages in _STAGES.items()
        if any(stage in sample.stages for sample in samples for stage in stages)
    }
    seconds["rest"] = median(sample.seconds - sum(sample.stages.values()) for sample in samples)
    return {column: 1000 * each / entry.images for column, each in seconds.items()}


def _memory(entry: Entry) -> int | None:
    told = (sample.memory_bytes for sample in entry.samples)
    return max((value for value in told if value is not None), default=None)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {**asdict(Spread.of(values)), "rounds": list(values)}


def _with_range(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.3g} ({spread.least:.3g}–{spread.most:.3g})"


def _reached(entry: Entry, limit: float) -> str:
    return f"{limit:.3g} ({median(entry.images_per_second) / limit:.0%})"
