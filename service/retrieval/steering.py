"""What an admin does about a job, from the command line as from the pages; the audit says who did it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy.orm import Session

from service.records import retrieval_jobs
from service.records.journal import write_down
from service.records.retrieval_jobs import JobView
from service.records.states import JobState


class Step(StrEnum):
    """What can be done about a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


def possible(job: JobView) -> tuple[Step, ...]:
    """What can be done about a job as it stands."""
    steps = []
    if job.is_active:
        steps.append(Step.PAUSE)
    if job.state == JobState.PAUSED:
        steps.append(Step.RESUME)
    if job.failed and job.state != JobState.CANCELLED:
        steps.append(Step.RETRY)
    if job.is_active or job.state == JobState.PAUSED:
        steps.append(Step.CANCEL)
    return tuple(steps)


def steer(session: Session, job_id: int, step: Step, who: str, now: datetime) -> str:
    """Does it, and says what came of it.

    Raises:
        NeverAgain: If there is no such job, or it stands otherwise.
    """
    told = f"job {job_id}: {step}"
    outcome = {f"job {job_id}": 1}
    if step is Step.PAUSE:
        retrieval_jobs.pause(session, job_id)
    elif step is Step.RESUME:
        retrieval_jobs.resume(session, job_id, now)
    elif step is Step.CANCEL:
        retrieval_jobs.cancel(session, job_id, now)
    else:
        count = retrieval_jobs.retry_failed(session, job_id, now)
        told = f"{count} studies to be tried again"
        outcome = {"to be tried again": count}
    write_down(session, who, f"job {step}", outcome, job=job_id)
    return told
