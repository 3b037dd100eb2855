"""Retrieval jobs as an admin sees and steers them: made, listed, shown, paused, resumed, cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, literal_column, select, update
from sqlalchemy.orm import Session

from service.errors import NotThere, WrongState
from service.records.job_progress import WINDOW, Progress, progress_of
from service.records.retrievals import ACTIVE
from service.records.states import JobState, RetrievalState
from service.records.tables import Instance, RetrievalJob, RetrievalStudy, Study

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class FailedStudy:
    """A study that could not be retrieved, and why; ``id`` is where a page of them ends."""

    id: int
    study_instance_uid: str
    accession_number: str
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with the counts of its studies; ``not_before`` is when its next step is due."""

    id: int
    source: str
    filters: str
    method: str
    again: bool
    rate_per_hour: float
    daily_window: str
    state: str
    error: str
    created_at: datetime
    found_at: datetime | None
    finished_at: datetime | None
    not_before: datetime
    questions_answered: int
    progress: Progress

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of its studies are in which state."""
        return self.progress.counts

    @property
    def studies(self) -> int:
        """How many studies it has so far."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """How many of them wait or are worked on."""
        return self.counts[RetrievalState.WAITING] + self.counts[RetrievalState.RUNNING]

    @property
    def failed(self) -> int:
        """How many could not be retrieved."""
        return self.counts[RetrievalState.FAILED]

    def an_hour(self, now: datetime) -> float:
        """How many of its studies ended an hour, of late."""
        if self.found_at is None or now <= self.found_at:
            return 0.0
        return self.progress.recent * (timedelta(hours=1) / min(WINDOW, now - self.found_at))

    def time_left(self, now: datetime) -> timedelta | None:
        """How long those that are open take at that rate; ``None`` where none has ended of late."""
        rate = self.an_hour(now)
        return timedelta(hours=self.open / rate) if rate else None

    @property
    def is_active(self) -> bool:
        """Whether a retriever works on it, or will."""
        return self.state in ACTIVE


def make_job(
    session: Session,
    *,
    source: str,
    filters: str,
    method: str,
    again: bool,
    rate_per_hour: float,
    daily_window: str,
    now: datetime,
) -> int:
    """Makes a job, due at once; its id is returned."""
    job = RetrievalJob(
        source=source,
        filters=filters,
        method=method,
        again=again,
        rate_per_hour=rate_per_hour,
        daily_window=daily_window,
        not_before=now,
        created_at=now,
    )
    session.add(job)
    session.flush()
    return job.id


def list_jobs(
    session: Session,
    limit: int,
    before: int | None = None,
    *,
    progress: Mapping[int, Progress] | None = None,
) -> list[JobView]:
    """The newest jobs, newest first, or those before one; counted where ``progress`` does not say."""
    newest = select(RetrievalJob).order_by(RetrievalJob.id.desc()).limit(limit)
    if before is not None:
        newest = newest.where(RetrievalJob.id < before)
    return _views(session, session.scalars(newest).all(), progress)


def show_job(session: Session, job_id: int, *, progress: Mapping[int, Progress] | None = None) -> JobView:
    """One job, counted where ``progress`` does not say.

    Raises:
        NotThere: If there is none.
    """
    return _views(session, [_job(session, job_id)], progress)[0]


def failed_studies(
    session: Session, job_id: int, limit: int | None = None, after: int = 0
) -> Iterator[FailedStudy]:
    """The studies of a job that could not be retrieved, or those after one, read as they are asked for."""
    rows = session.execute(
        select(
            RetrievalStudy.id,
            RetrievalStudy.study_instance_uid,
            RetrievalStudy.accession_number,
            RetrievalStudy.attempt,
            RetrievalStudy.error,
        )
        .where(
            RetrievalStudy.job_id == job_id,
            # As the index of those that failed says it, which SQLite knows by its words alone.
            literal_column("state") == literal_column("'failed'"),
            RetrievalStudy.id > after,
        )
        .order_by(RetrievalStudy.id)
        .limit(limit),
        execution_options={"yield_per": _AT_ONCE},
    )
    for row in rows:
        yield FailedStudy(*row)


def not_found(session: Session, job_id: int, accession_numbers: Sequence[str]) -> list[str]:
    """Those accession numbers, in any case, of which a job has no study."""
    if not accession_numbers:
        return []
    numbers = select(RetrievalStudy.accession_number).where(RetrievalStudy.job_id == job_id)
    found = {number.casefold() for number in session.scalars(numbers)}
    return [number for number in accession_numbers if number.casefold() not in found]


def count_here(session: Session, study_instance_uids: Sequence[str]) -> int:
    """Of how many of these studies the node has something."""
    having = (
        select(Study.id)
        .join(Instance)
        .where(Study.study_instance_uid.in_(study_instance_uids), Instance.purged_at.is_(None))
    )
    return session.scalar(select(func.count()).select_from(having.distinct().subquery())) or 0


def pause(session: Session, job_id: int) -> None:
    """Stops a job after the study in hand.

    Raises:
        NotThere: If there is none.
        WrongState: If it is over.
    """
    _change(session, job_id, {*ACTIVE, JobState.PAUSED}, state=JobState.PAUSED)


def resume(session: Session, job_id: int, now: datetime) -> None:
    """Lets a paused job go on.

    Raises:
        NotThere: If there is none.
        WrongState: If it is over.
    """
    job = _job(session, job_id)
    if job.state not in ACTIVE:
        state = JobState.FINDING if job.found_at is None else JobState.RUNNING
        _change(session, job_id, {JobState.PAUSED}, state=state, error="", failures=0, away=0)
        running = select(RetrievalStudy.id).where(
            RetrievalStudy.job_id == job_id, RetrievalStudy.state == RetrievalState.RUNNING
        )
        # A study that is still worked on keeps the job's lease, or two would retrieve it at once.
        if session.scalars(running.limit(1)).first() is None:
            job.not_before = now


def cancel(session: Session, job_id: int, now: datetime) -> None:
    """Ends a job after the study in hand; what still waits is not retrieved.

    Raises:
        NotThere: If there is none.
        WrongState: If it is over.
    """
    _change(session, job_id, {*ACTIVE, JobState.PAUSED}, state=JobState.CANCELLED, finished_at=now)


def retry_failed(session: Session, job_id: int, now: datetime) -> int:
    """Lets a job try its failed studies again; how many there are is returned.

    Raises:
        NotThere: If there is none.
        WrongState: If it was cancelled.
    """
    job = _job(session, job_id)
    if job.state == JobState.CANCELLED:
        raise WrongState(f"job {job_id} is cancelled")
    failed = select(RetrievalStudy.id).where(
        RetrievalStudy.job_id == job_id, RetrievalStudy.state == RetrievalState.FAILED
    )
    count = session.scalar(select(func.count()).select_from(failed.subquery())) or 0
    session.execute(
        update(RetrievalStudy)
        .where(RetrievalStudy.job_id == job_id, RetrievalStudy.state == RetrievalState.FAILED)
        .values(state=RetrievalState.WAITING, failures=0, not_before=now, finished_at=None)
    )
    if count and job.state == JobState.DONE:
        job.state, job.finished_at, job.not_before = JobState.RUNNING, None, now
    return count


def _job(session: Session, job_id: int) -> RetrievalJob:
    job = session.get(RetrievalJob, job_id)
    if job is None:
        raise NotThere(f"there is no job {job_id}")
    return job


def _change(session: Session, job_id: int, from_states: set[JobState], **values: Any) -> None:
    job = _job(session, job_id)
    if job.state not in from_states:
        raise WrongState(f"job {job_id} is {job.state}")
    for name, value in values.items():
        setattr(job, name, value)


def _views(
    session: Session, jobs: Sequence[RetrievalJob], progress: Mapping[int, Progress] | None
) -> list[JobView]:
    if progress is None:
        progress = progress_of(session, [job.id for job in jobs])
    return [
        JobView(
            id=job.id,
            source=job.source,
            filters=job.filters,
            method=job.method,
            again=job.again,
            rate_per_hour=job.rate_per_hour,
            daily_window=job.daily_window,
            state=job.state,
            error=job.error,
            created_at=job.created_at,
            found_at=job.found_at,
            finished_at=job.finished_at,
            not_before=job.not_before,
            questions_answered=job.questions_answered,
            progress=progress.get(job.id, Progress()),
        )
        for job in jobs
    ]
