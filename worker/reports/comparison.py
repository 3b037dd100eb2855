"""Two reports of the same images: what the second says that the first did not, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.reports.document import Group, Report

SAME_IOU: Final = 0.5
"""Two regions of the same finding that overlap at least so much are the same one."""


@dataclass(frozen=True)
class Comparison:
    """Findings of two reports.

    Attributes:
        kept: In both, with the overlap of their regions; 1 where neither has one.
        gone: In the first alone.
        new: In the second alone.
    """

    kept: list[tuple[Group, Group, float]]
    gone: list[Group]
    new: list[Group]


def compare(before: Report, after: Report) -> Comparison:
    """Pairs the findings of two reports, those that overlap most first."""
    pairs = sorted(
        (
            (_likeness(one, other), i, j)
            for i, one in enumerate(before.groups)
            for j, other in enumerate(after.groups)
        ),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    first: set[int] = set()
    second: set[int] = set()
    kept = []
    for likeness, i, j in pairs:
        if likeness >= SAME_IOU and i not in first and j not in second:
            first.add(i)
            second.add(j)
            kept.append((i, (before.groups[i], after.groups[j], likeness)))
    return Comparison(
        kept=[pair for _, pair in sorted(kept, key=lambda each: each[0])],
        gone=_without(before.groups, first),
        new=_without(after.groups, second),
    )


def _likeness(one: Group, other: Group) -> float:
    if (one.finding, one.site) != (other.finding, other.site):
        return 0.0
    if not one.regions and not other.regions:
        return 1.0
    overlaps = [mine.iou(theirs) for mine in one.regions for theirs in other.regions]
    return max(overlaps, default=0.0)


def _without(groups: Sequence[Group], places: set[int]) -> list[Group]:
    return [group for place, group in enumerate(groups) if place not in places]
