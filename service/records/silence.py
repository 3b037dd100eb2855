"""Which modalities have been silent for longer than usual at this time of the week.

What is usual is what was so around the same time of the last weeks: a modality that sends from Monday to
Friday may be silent on a Sunday, and not at noon on a Tuesday. The longest silence of those weeks is the
measure, which a person can look up; a share on top keeps what is a little longer from being called unusual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service.records.states import Priority
from service.records.tables import Instance, Study

WEEKS: Final = 4
"""So many weeks are looked at."""

_FEWEST_WEEKS: Final = 2
"""Of fewer nothing is said: a modality is new, or was tried out."""

_AROUND: Final = timedelta(hours=1)
"""The same time of the week, with this before and after it."""

_LEAST_MARGIN: Final = timedelta(minutes=30)
_LARGEST_MARGIN: Final = timedelta(hours=4)

_FORGOTTEN: Final = timedelta(days=60)
"""What has sent nothing for so long has been taken away."""

MOST: Final = 50
"""As many modalities are told apart: whoever may send chooses an AE title, and could choose any number."""

_LOOKED_THROUGH: Final = 500


@dataclass(frozen=True, slots=True)
class Silence:
    """One modality's.

    Attributes:
        calling_ae_title: By which it is known.
        last: When it sent something last.
        usual: Its longest silence around this time of the week; ``None`` where that is not known yet.
        weeks: In how many weeks that was looked up.
    """

    calling_ae_title: str
    last: datetime
    usual: timedelta | None
    weeks: int

    def lasts(self, now: datetime) -> timedelta:
        """How long it has been silent by now."""
        return max(timedelta(0), now - self.last)

    def is_unusual(self, now: datetime) -> bool:
        """Whether that is longer than usual, with the margin."""
        return self.usual is not None and self.lasts(now) > self.usual + margin(self.usual)


def margin(usual: timedelta) -> timedelta:
    """What a silence may be longer than usual: half as much again, from half an hour to four hours."""
    return min(max(usual / 2, _LEAST_MARGIN), _LARGEST_MARGIN)


def same_times(now: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """The last moments, latest first, at which a clock in ``zone`` showed this time of the week.

    With what is around them they lie before ``last``: the present silence is no measure of itself.
    """
    local = now.astimezone(zone)
    silent = max(timedelta(0), now - last)
    first = silent // timedelta(weeks=1)
    candidates = (
        # Of a zone's own clock: a week has an hour more or less where summer time begins or ends.
        (local - timedelta(weeks=number)).astimezone(UTC)
        for number in range(max(1, first), first + WEEKS + 3)
    )
    return [moment for moment in candidates if moment + _AROUND <= last][:WEEKS]


def longest_silence(before: datetime, sent: Sequence[datetime], end: datetime) -> timedelta:
    """The longest silence that was reached up to ``end``.

    Args:
        before: When something was sent last before the time that is looked at.
        sent: When something was sent within it, in order.
        end: The end of it.
    """
    moments = [before, *sent, end]
    return max(later - earlier for earlier, later in pairwise(moments))


def silences(session: Session, now: datetime, zone: ZoneInfo) -> tuple[Silence, ...]:
    """Every modality that has sent something lately, those first that are usually silent for the shortest.

    What we fetched ourselves, or imported, is nobody's habit. By an index alone, but for studies' priorities.
    """
    found = []
    for title in _titles(session):
        last = _last(session, title, now + _AROUND, now)
        if last is not None:
            found.append(_silence(session, title, last, now, zone))
    found.sort(key=lambda one: (one.usual is None, one.usual, one.calling_ae_title))
    return tuple(found[:MOST])


def _silence(session: Session, title: str, last: datetime, now: datetime, zone: ZoneInfo) -> Silence:
    longest = []
    for moment in same_times(now, last, zone):
        start, end = moment - _AROUND, moment + _AROUND
        before = _last(session, title, start, start)
        if before is not None:
            longest.append(longest_silence(before, _sent(session, title, start, end), end))
    usual = max(longest) if len(longest) >= _FEWEST_WEEKS else None
    return Silence(title, last, usual, len(longest))


def _titles(session: Session) -> Iterator[str]:
    """All AE titles, each by one look into the index."""
    title = ""
    for _ in range(_LOOKED_THROUGH):
        following = select(func.min(Instance.calling_ae_title)).where(Instance.calling_ae_title > title)
        title = session.scalar(following) or ""
        if not title:
            return
        yield title


def _last(session: Session, title: str, until: datetime, now: datetime) -> datetime | None:
    """When it sent something last before ``until``, unless that is forgotten by ``now``."""
    within = _received(title).where(Instance.received_at < until, Instance.received_at >= now - _FORGOTTEN)
    return session.scalar(within.order_by(Instance.received_at.desc()).limit(1))


def _sent(session: Session, title: str, start: datetime, end: datetime) -> list[datetime]:
    within = _received(title).where(Instance.received_at >= start, Instance.received_at < end)
    return list(session.scalars(within.order_by(Instance.received_at)))


def _received(title: str) -> Select[datetime]:
    by_itself = select(Instance.received_at).join(Study, Study.id == Instance.study_id)
    return by_itself.where(Instance.calling_ae_title == title, Study.priority < Priority.BACKLOG)
