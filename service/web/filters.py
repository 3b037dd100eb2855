"""The list's filters: how they are written in an address, and which studies they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from litegpt.vocabulary import LABELS
from service.errors import SettingsError
from service.records.selection import STATES, Selection
from service.records.worklist import Key

_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person chose, as text; each may be empty.

    Attributes:
        study: Study Instance UID or its beginning, or accession number.
        state: Where studies stand.
        since, until: Days on which they were received, ``YYYY-MM-DD`` at the hospital.
        study_since, study_until: The same of Study Date.
        label, score: A finding, and its least score.
        model: Version of a model.
        destination: ``AET@HOST:PORT``.
    """

    study: str = ""
    state: str = ""
    since: str = ""
    until: str = ""
    study_since: str = ""
    study_until: str = ""
    label: str = ""
    score: str = ""
    model: str = ""
    destination: str = ""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Filters:
        """From an address's query or a form; what is none of them is passed over.

        Raises:
            SettingsError: If a text is too long, or has characters that cannot be printed.
        """
        texts = {one.name: given.get(one.name) for one in fields(cls)}
        given = {name: text.strip() for name, text in texts.items() if isinstance(text, str)}
        for name, text in given.items():
            if len(text) > _LONGEST or not text.isprintable():
                raise SettingsError(f"That is no {name}.")
        return cls(**given)

    def given(self) -> tuple[tuple[str, str], ...]:
        """Those that are not empty."""
        pairs = ((one.name, getattr(self, one.name)) for one in fields(self))
        return tuple((name, value) for name, value in pairs if value)

    def query(self, *more: tuple[str, str]) -> str:
        """As the query of an address, with its question mark where there is anything."""
        pairs = [*self.given(), *more]
        return f"?{urlencode(pairs)}" if pairs else ""

    def selection(self, zone: ZoneInfo) -> Selection:
        """Which studies they mean.

        Raises:
            SettingsError: If one of them is nothing that can be meant.
        """
        if self.label and self.label not in LABELS:
            raise SettingsError(f"No finding is called {self.label}.")
        if self.state and self.state not in STATES:
            raise SettingsError(f"There is no state {self.state}.")
        return Selection(
            studies=(self.study,) if self.study else (),
            states=(self.state,) if self.state else (),
            since=_moment(self.since, time.min, zone),
            until=_moment(self.until, time.max, zone),
            study_dates_from=_date(self.study_since),
            study_dates_to=_date(self.study_until),
            model=self.model,
            label=self.label,
            minimum_score=_score(self.score) if self.label else 0.0,
            destination=self.destination,
        )


def write_key(key: Key) -> str:
    """Where a page of the list begins, for an address."""
    return f"{key.received_at:%Y%m%dT%H%M%S.%f}-{key.id}"


def read_key(text: str) -> Key | None:
    """The same back; ``None`` of an empty text.

    Raises:
        SettingsError: If it is none.
    """
    if not text:
        return None
    moment, _, number = text.partition("-")
    try:
        at = datetime.strptime(moment, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        key = Key(at, int(number))
    except ValueError:
        raise SettingsError("The address names no page of the list.") from None
    if not 0 <= key.id < 2**31:
        raise SettingsError("The address names no page of the list.")
    return key


def states() -> Iterable[str]:
    """What a study may be filtered by."""
    return STATES


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise SettingsError("A day is written 2026-01-31.") from None


def _moment(text: str, at: time, zone: ZoneInfo) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(_day(text).date(), at, zone).astimezone(UTC)
    except OverflowError:
        raise SettingsError("No study can have come on that day.") from None


def _date(text: str) -> str:
    return f"{_day(text):%Y%m%d}".zfill(8) if text else ""


def _score(text: str) -> float:
    try:
        score = float(text or 0)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise SettingsError("A score is between 0 and 1.")
    return score
