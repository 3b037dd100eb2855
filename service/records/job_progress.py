"""How far retrieval jobs are: their studies by state, the images of these, and the rate of late."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, func, literal_column, select
from sqlalchemy.orm import Session

from service.records.database import utc_now
from service.records.states import RetrievalState
from service.records.tables import RetrievalStudy

WINDOW: Final = timedelta(minutes=15)
"""What ``recent`` is counted over."""


def _none() -> dict[str, int]:
    return {state.value: 0 for state in RetrievalState}


@dataclass(frozen=True, slots=True)
class Progress:
    """One job's.

    Attributes:
        counts: Studies by state.
        images_expected: Images of the studies that were asked about.
        images_come: Those of them that are here.
        recent: Studies that ended within ``WINDOW``.
    """

    counts: Mapping[str, int] = field(default_factory=_none)
    images_expected: int = 0
    images_come: int = 0
    recent: int = 0


def progress_of(
    session: Session, job_ids: Collection[int] | None = None, now: datetime | None = None
) -> dict[int, Progress]:
    """The progress of these jobs, or of all; jobs without any study are left out. By indices alone."""
    recent = _counts(session, _recent((now or utc_now()) - WINDOW, job_ids))
    counted: dict[int, list[Any]] = {}
    for row in session.execute(_by_state(job_ids)):
        counted.setdefault(row.job_id, []).append(row)
    return {
        job_id: Progress(
            counts=_none() | {row.state: row.studies for row in rows},
            images_expected=int(sum(row.expected for row in rows)),
            images_come=int(sum(row.come for row in rows)),
            recent=recent.get(job_id, 0),
        )
        for job_id, rows in counted.items()
    }


def _by_state(job_ids: Collection[int] | None) -> Select[int, str, int, int, int]:
    study = RetrievalStudy
    counted = select(
        study.job_id,
        study.state,
        func.count().label("studies"),
        func.sum(study.images_expected).label("expected"),
        func.sum(study.images_come).label("come"),
    ).group_by(study.job_id, study.state)
    return counted if job_ids is None else counted.where(study.job_id.in_(job_ids))


def _recent(since: datetime, job_ids: Collection[int] | None) -> Select[int, int]:
    # Out of sight of SQLite's planner, which would go through all studies for having them by job.
    job_id = func.coalesce(RetrievalStudy.job_id, literal_column("0"))
    ended = select(job_id, func.count()).where(RetrievalStudy.finished_at >= since)
    if job_ids is not None:
        ended = ended.where(job_id.in_(job_ids))
    return ended.group_by(job_id)


def _counts(session: Session, statement: Select[int, int]) -> dict[int, int]:
    return {row[0]: row[1] for row in session.execute(statement)}
