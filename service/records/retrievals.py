"""Retrieval jobs as work: claiming a job's next step, keeping the claim, and writing what came of it.

A claim takes a job's next ``attempt`` number and moves its ``not_before`` to the end of the lease: a job is
worked on by one retriever at a time. A study that is ``running`` while its job can be claimed was left behind
by a retriever that was killed, and is taken up first. Times are given by the caller, whose clock also decides
about windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.peers import Destination
from service.records.database import Records
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import InstanceState, JobState, RetrievalState
from service.records.tables import Instance, RetrievalJob, RetrievalStudy, Study
from service.wire.query import FoundStudy

FAILURES_IN_A_ROW: Final = 10
"""So many failures without a success between them pause a job: the fault is not the studies'."""

ACTIVE: Final = (JobState.FINDING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A job whose next step this retriever may do until its lease ends: while finding, to go on with that.

    Attributes:
        filters: As JSON.
        questions_answered: How far finding has come.
    """

    job_id: int
    attempt: int
    source: Destination
    filters: str
    questions_answered: int
    daily_window: str


@dataclass(frozen=True, slots=True)
class StudyClaim(JobClaim):
    """The same once everything is found: to retrieve this study."""

    study_id: int
    study_attempt: int
    study_failures: int
    study_instance_uid: str
    method: str
    again: bool
    rate_per_hour: float


def claim(
    records: Records, *, now: datetime, lease: timedelta, is_open: Callable[[str], bool], retry: Retry
) -> JobClaim | None:
    """Claims the next step of the job that has waited longest, of those whose window is open."""
    is_due = (RetrievalJob.state.in_(ACTIVE), RetrievalJob.not_before <= now)
    with records.reading() as session:
        due = session.execute(
            select(RetrievalJob.id, RetrievalJob.daily_window)
            .where(*is_due)
            .order_by(RetrievalJob.not_before, RetrievalJob.id)
        )
        ids = [job_id for job_id, daily_window in due if is_open(daily_window)]
    for job_id in ids:
        with records.writing() as session:
            this_one = select(RetrievalJob).where(RetrievalJob.id == job_id, *is_due)
            job = session.scalars(this_one.with_for_update(skip_locked=True)).one_or_none()
            claimed = _begin(session, job, now, lease, retry) if job is not None else None
        if claimed is not None:
            return claimed
    return None


def _begin(
    session: Session, job: RetrievalJob, now: datetime, lease: timedelta, retry: Retry
) -> JobClaim | None:
    study = None
    if job.state == JobState.RUNNING:
        study = _next_study(session, job, now, retry)
        if study is None:
            _await_or_finish(session, job, now)
            return None
    job.attempt += 1
    job.not_before = now + lease
    source = Destination.parse(job.source)
    of_job = (job.id, job.attempt, source, job.filters, job.questions_answered, job.daily_window)
    if study is None:
        return JobClaim(*of_job)
    study.state = RetrievalState.RUNNING
    study.attempt += 1
    return StudyClaim(
        *of_job,
        study_id=study.id,
        study_attempt=study.attempt,
        study_failures=study.failures,
        study_instance_uid=study.study_instance_uid,
        method=job.method,
        again=job.again,
        rate_per_hour=job.rate_per_hour,
    )


def _next_study(session: Session, job: RetrievalJob, now: datetime, retry: Retry) -> RetrievalStudy | None:
    of_job = select(RetrievalStudy).where(RetrievalStudy.job_id == job.id).limit(1)
    left_behind = session.scalars(of_job.where(RetrievalStudy.state == RetrievalState.RUNNING)).first()
    if left_behind is not None:
        left_behind.failures += 1
        if left_behind.failures < retry.maximum_attempts:
            return left_behind
        left_behind.state, left_behind.finished_at = RetrievalState.FAILED, now
        left_behind.error = f"no retriever finished it in {left_behind.attempt} attempts"
    waiting = (RetrievalStudy.state == RetrievalState.WAITING, RetrievalStudy.not_before <= now)
    return session.scalars(
        of_job.where(*waiting).order_by(RetrievalStudy.not_before, RetrievalStudy.id)
    ).first()


def _await_or_finish(session: Session, job: RetrievalJob, now: datetime) -> None:
    next_due = session.scalar(
        select(func.min(RetrievalStudy.not_before)).where(
            RetrievalStudy.job_id == job.id, RetrievalStudy.state == RetrievalState.WAITING
        )
    )
    if next_due is None:
        job.state, job.finished_at = JobState.DONE, now
    else:
        job.not_before = next_due


def renew(records: Records, claim: JobClaim, until: datetime) -> None:
    """Keeps a claim until the end of another lease.

    Raises:
        LeaseLost: If it is not ours any more.
    """
    with records.writing() as session:
        _write_job(session, claim, not_before=until)


def add_found(
    records: Records, claim: JobClaim, studies: Sequence[FoundStudy], now: datetime, answered: int
) -> None:
    """Adds studies to a job, those that it has already left as they are, and writes how far finding has come.

    Raises:
        LeaseLost: If the job was paused or cancelled, or taken up by another retriever.
    """
    dialect = postgresql if records.engine.dialect.name == "postgresql" else sqlite
    rows = [
        {
            "job_id": claim.job_id,
            "study_instance_uid": study.study_instance_uid,
            "accession_number": study.accession_number.replace("\0", ""),
            "study_date": study.study_date[:8],
            "state": RetrievalState.WAITING,
            "not_before": now,
        }
        for study in studies
    ]
    with records.writing() as session:
        _write_job(
            session,
            claim,
            RetrievalJob.state == JobState.FINDING,
            questions_answered=answered,
            away=0,
            error="",
        )
        if rows:
            session.execute(dialect.insert(RetrievalStudy).on_conflict_do_nothing(), rows)


def found_all(records: Records, claim: JobClaim, now: datetime) -> None:
    """Writes that a job has all of its studies, and may begin to retrieve them.

    Raises:
        LeaseLost: If the job was paused or cancelled, or taken up by another retriever.
    """
    with records.writing() as session:
        still_finding = RetrievalJob.state == JobState.FINDING
        _write_job(session, claim, still_finding, state=JobState.RUNNING, found_at=now, not_before=now)


def images_here(records: Records, study_instance_uid: str) -> set[str]:
    """The SOP Instance UIDs that the node holds of a study."""
    with records.reading() as session:
        return set(
            session.scalars(
                select(Instance.sop_instance_uid)
                .join(Study)
                .where(
                    Study.study_instance_uid == study_instance_uid,
                    Instance.state == InstanceState.STORED,
                    Instance.purged_at.is_(None),
                )
            )
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a study: ``done``, or ``skipped`` with the reason."""

    state: RetrievalState
    images_expected: int
    images_come: int
    why: str = ""


def finish(records: Records, claim: StudyClaim, outcome: Outcome, now: datetime, next_at: datetime) -> None:
    """Writes what became of a study; the job's next one is due at ``next_at``.

    Raises:
        LeaseLost: If another retriever has taken the job up since.
    """
    with records.writing() as session:
        _write_job(session, claim, not_before=next_at, away=0, failures=0, error="")
        _write_study(
            session,
            claim,
            state=outcome.state,
            images_expected=outcome.images_expected,
            images_come=outcome.images_come,
            error=outcome.why,
            finished_at=now,
        )


def fail(
    records: Records,
    claim: StudyClaim,
    error: str,
    counted: tuple[int, int],
    *,
    for_good: bool,
    retry: Retry,
    now: datetime,
    next_at: datetime,
) -> None:
    """Writes that a study could not be retrieved: for good, or until a later attempt.

    Args:
        records: Where to.
        claim: The study.
        error: Why not.
        counted: How many images were expected, and how many of them are here.
        for_good: Whether another attempt would end the same way.
        retry: When to try again, and when to stop.
        now: The present moment.
        next_at: When the job's next study is due.

    Raises:
        LeaseLost: If another retriever has taken the job up since.
    """
    failures = claim.study_failures + 1
    over = for_good or failures >= retry.maximum_attempts
    values: dict[str, object] = {"state": RetrievalState.WAITING, "not_before": now + retry.wait(failures)}
    if over:
        values = {"state": RetrievalState.FAILED, "finished_at": now}
    with records.writing() as session:
        _write_job(session, claim, not_before=next_at, away=0, failures=RetrievalJob.failures + 1)
        _write_study(
            session,
            claim,
            **values,
            failures=failures,
            error=error,
            images_expected=counted[0],
            images_come=counted[1],
        )
        job = session.get_one(RetrievalJob, claim.job_id)
        if job.failures >= FAILURES_IN_A_ROW and job.state in ACTIVE:
            job.state = JobState.PAUSED
            job.error = f"{job.failures} failures in a row, the last: {error}"


def await_peer(records: Records, claim: JobClaim, error: str, retry: Retry, now: datetime) -> None:
    """Puts a job off whose peer is away; that goes on for ever, and no study is to blame.

    Raises:
        LeaseLost: If another retriever has taken the job up since.
    """
    with records.writing() as session:
        job = session.get_one(RetrievalJob, claim.job_id)
        away = job.away + 1
        _write_job(session, claim, away=away, error=error, not_before=now + retry.wait(away))
        _put_back(session, claim)


def pause(records: Records, claim: JobClaim, error: str, now: datetime) -> None:
    """Pauses a job that will not go on until an admin has done something about ``error``.

    Raises:
        LeaseLost: If another retriever has taken the job up since.
    """
    with records.writing() as session:
        _write_job(session, claim, not_before=now)
        _put_back(session, claim)
        job = session.get_one(RetrievalJob, claim.job_id, populate_existing=True)
        if job.state in ACTIVE:
            job.state, job.error = JobState.PAUSED, error


def give_back(records: Records, claim: JobClaim, now: datetime) -> None:
    """Gives a claim back that is not worked on to its end.

    Raises:
        LeaseLost: If another retriever has taken the job up since.
    """
    with records.writing() as session:
        _write_job(session, claim, not_before=now)
        _put_back(session, claim)


def _put_back(session: Session, claim: JobClaim) -> None:
    if isinstance(claim, StudyClaim):
        _write_study(session, claim, state=RetrievalState.WAITING)


def _write_job(session: Session, claim: JobClaim, *conditions: Any, **values: object) -> None:
    ours = (RetrievalJob.id == claim.job_id, RetrievalJob.attempt == claim.attempt, *conditions)
    lost = f"job {claim.job_id}: attempt {claim.attempt} is over, or paused"
    write_while_held(session, update(RetrievalJob).where(*ours).values(**values), lost)


def _write_study(session: Session, claim: StudyClaim, **values: object) -> None:
    ours = (
        RetrievalStudy.id == claim.study_id,
        RetrievalStudy.attempt == claim.study_attempt,
        RetrievalStudy.state == RetrievalState.RUNNING,
    )
    lost = f"job {claim.job_id}: study {claim.study_id} is not ours any more"
    write_while_held(session, update(RetrievalStudy).where(*ours).values(**values), lost)
