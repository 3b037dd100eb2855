"""Two reports of the same images: what the second says that the first did not, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.reports.document import Report
from worker.reports.group import Group

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
    """Pairs the findings of two reports: those tracked as the same first, then those that overlap most."""
    pairs = sorted(
        (
            (_same(one, other), _overlap(one, other), i, j)
            for i, one in enumerate(before.groups)
            for j, other in enumerate(after.groups)
            if _same(one, other) or _alike(one, other)
        ),
        key=lambda pair: (not pair[0], -pair[1], pair[2:]),
    )
    first: set[int] = set()
    second: set[int] = set()
    kept = []
    for same, overlap, i, j in pairs:
        if (same or overlap >= SAME_IOU) and i not in first and j not in second:
            first.add(i)
            second.add(j)
            kept.append((i, (before.groups[i], after.groups[j], overlap)))
    return Comparison(
        kept=[pair for _, pair in sorted(kept, key=lambda each: each[0])],
        gone=_without(before.groups, first),
        new=_without(after.groups, second),
    )


def _same(one: Group, other: Group) -> bool:
    return bool(one.tracking_uid) and one.tracking_uid == other.tracking_uid


def _alike(one: Group, other: Group) -> bool:
    sides = {group.laterality for group in (one, other) if group.laterality}
    return (one.finding, one.site) == (other.finding, other.site) and len(sides) < 2


def _overlap(one: Group, other: Group) -> float:
    if not one.regions and not other.regions:
        return 1.0
    return max((mine.iou(theirs) for mine in one.regions for theirs in other.regions), default=0.0)


def _without(groups: Sequence[Group], places: set[int]) -> list[Group]:
    return [group for place, group in enumerate(groups) if place not in places]
