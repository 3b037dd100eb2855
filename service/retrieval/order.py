"""A backlog as somebody orders it: from which PACS, which studies, and how. In words, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.orm import Session

from service.peers import Destination
from service.records import retrieval_jobs
from service.records.journal import write_down
from service.retrieval.filters import Filters
from service.retrieval.window import Window
from service.wire.retrieval import Method

LEAST_RATE: Final = 0.01
"""Studies an hour."""

_LISTED: Final = 100
"""As many accession numbers are named in the audit; of more, how many there are."""


@dataclass(frozen=True, slots=True)
class Order:
    """What becomes a job.

    Attributes:
        source: The PACS.
        filters: Which studies.
        method: How their images come.
        again: Whether those that the node has already are retrieved, too.
        rate_per_hour: Studies an hour at most; 0 is no limit.
        daily_window: ``HH:MM-HH:MM``; empty is all day.
    """

    source: Destination
    filters: Filters
    method: Method = Method.MOVE
    again: bool = False
    rate_per_hour: float = 0.0
    daily_window: str = ""

    def place(self, session: Session, who: str, now: datetime) -> int:
        """Makes the job, with a line in the audit; its id is returned."""
        job_id = retrieval_jobs.make_job(
            session,
            source=self.source.address,
            filters=self.filters.model_dump_json(),
            method=self.method,
            again=self.again,
            rate_per_hour=self.rate_per_hour,
            daily_window=self.daily_window,
            now=now,
        )
        write_down(session, who, "retrieve", {f"job {job_id}": 1}, **self._told())
        return job_id

    def _told(self) -> dict[str, Any]:
        """For the audit, which names no patient."""
        given = self.filters.model_dump(mode="json", exclude_defaults=True)
        if "patient_id" in given:
            given["patient_id"] = "of one patient"
        if len(self.filters.accession_numbers) > _LISTED:
            given["accession_numbers"] = f"{len(self.filters.accession_numbers)} of them"
        how = {
            "from": self.source.address,
            "by": f"C-{self.method.upper()}",
            "again": self.again,
            "rate_per_hour": self.rate_per_hour,
            "window": self.daily_window,
        }
        return {"studies": given, **{name: value for name, value in how.items() if value}}


def read_source(text: str) -> Destination:
    """Reads ``AET@HOST:PORT``.

    Raises:
        ValueError: If it is none.
    """
    try:
        return Destination.parse(text)
    except ValueError as error:
        raise ValueError(str(error).replace("a destination", "a PACS")) from None


def read_rate(rate: float) -> float:
    """Looks at a number of studies an hour.

    Raises:
        ValueError: If it is none; beside 0, so few would be a matter of weeks for each.
    """
    if not (rate == 0 or LEAST_RATE <= rate < math.inf):
        raise ValueError(f"A rate is a number of studies an hour, {LEAST_RATE:g} or more; 0 is no limit.")
    return rate


def read_window(text: str) -> str:
    """Reads ``HH:MM-HH:MM``, as a job keeps it; an empty text is all day.

    Raises:
        ValueError: If it is none.
    """
    return str(Window.parse(text)) if text else ""


def read_filters(today: date, since: date | None, until: date | None, **asked: Any) -> Filters:
    """Filters by what was given; a range that does not end, ends today.

    Raises:
        ValueError: If they ask for nothing, or for what cannot be asked for.
    """
    given = {name: value for name, value in asked.items() if value}
    given |= {"since": since, "until": until or (today if since else None)}
    try:
        return Filters.model_validate(given)
    except ValidationError as error:
        complaint = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ValueError(complaint) from None
