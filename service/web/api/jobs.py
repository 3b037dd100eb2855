"""Jobs that retrieve old studies: the list, one, what failed in it; to pause, resume, cancel, try again."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from service.records import retrieval_jobs
from service.records.database import utc_now
from service.records.retrieval_jobs import JobView
from service.retrieval.filters import Filters
from service.retrieval.steering import Step, steer
from service.web.api.callers import AdmittingRoute, AnOperator, AViewer, Caller
from service.web.api.paging import After, Before
from service.web.api.problems import responses
from service.web.api.shapes import Shape
from service.web.node import Node, OfNode

router = APIRouter(
    route_class=AdmittingRoute, prefix="/jobs", tags=["retrieval jobs"], responses=responses(404)
)
_steering = APIRouter(route_class=AdmittingRoute, prefix="/{job_id}", responses=responses(404, 409))

_ROWS = 50
_FAILURES = 100

JobID = Annotated[int, Path(ge=1, lt=2**31, description="A job's number.")]


class JobFilters(BaseModel):
    """What a job asks a PACS for; not which patient."""

    since: date | None = Field(description="First Study Date.")
    until: date | None = Field(description="Last Study Date.")
    modalities: list[str] = Field(description="Of a study's series, one of them.")
    body_part: str = Field(description="In Body Part Examined; empty: any.")
    of_one_patient: bool = Field(description="Whether it asks for the studies of one patient.")
    accession_numbers: int = Field(description="How many accession numbers it asks for.")


class Job(BaseModel):
    """A job that retrieves studies."""

    id: int = Field(description="Its number.")
    source: str = Field(description="From where, `AET@HOST:PORT`.")
    asks_for: JobFilters = Field(description="What it asks for.")
    method: str = Field(description="`move` or `get`.")
    again: bool = Field(description="Whether studies are retrieved, too, whose images are here.")
    rate_per_hour: float = Field(description="Studies an hour at most; 0: no limit.")
    daily_window: str = Field(description="`HH:MM-HH:MM`; empty: all day.")
    state: str = Field(description="`finding`, `running`, `paused`, `done` or `cancelled`.")
    error: str = Field(description="Why it paused itself, or what the last attempt ended with.")
    created_at: datetime = Field(description="When it was made.")
    found_at: datetime | None = Field(description="When all of its studies had been found.")
    finished_at: datetime | None = Field(description="When it ended.")
    studies: int = Field(description="How many it has found so far.")
    counts: dict[str, int] = Field(
        description="These by state: `waiting`, `running`, `done`, `failed`, `skipped`."
    )

    @classmethod
    def of(cls, view: JobView) -> Self:
        """A job as the records have it."""
        asked = Filters.model_validate(json.loads(view.filters))
        own = {name: getattr(view, name) for name in cls.model_fields if name != "asks_for"}
        filters = JobFilters(
            since=asked.since,
            until=asked.until,
            modalities=list(asked.modalities),
            body_part=asked.body_part,
            of_one_patient=bool(asked.patient_id),
            accession_numbers=len(asked.accession_numbers),
        )
        return cls(asks_for=filters, **own)


class JobPage(BaseModel):
    """A page of the list of jobs, newest first."""

    jobs: list[Job] = Field(description=f"At most {_ROWS}.")
    next: int | None = Field(description="Give this as `before` for the next page; null at the end.")


class Failure(Shape):
    """A study that could not be retrieved."""

    study_instance_uid: str = Field(description="Study Instance UID.")
    accession_number: str = Field(description="Accession number.")
    attempts: int = Field(description="How often it was tried.")
    error: str = Field(description="Why not.")


class FailurePage(BaseModel):
    """A page of the studies of a job that could not be retrieved."""

    failures: list[Failure] = Field(description=f"At most {_FAILURES}.")
    next: int | None = Field(description="Give this as `after` for the next page; null at the end.")


@router.get("")
def jobs(
    node: OfNode,
    caller: AViewer,
    page: Annotated[Before, Query()],
) -> JobPage:
    """A page of the jobs, newest first."""
    with node.records.snapshot() as session:
        views = retrieval_jobs.list_jobs(session, _ROWS + 1, page.before)
    following = views[_ROWS - 1].id if len(views) > _ROWS else None
    return JobPage(jobs=[Job.of(view) for view in views[:_ROWS]], next=following)


@router.get("/{job_id}")
def job(job_id: JobID, node: OfNode, caller: AViewer) -> Job:
    """One job."""
    with node.records.snapshot() as session:
        return Job.of(retrieval_jobs.show_job(session, job_id))


@router.get("/{job_id}/failures")
def failures(
    job_id: JobID,
    node: OfNode,
    caller: AViewer,
    page: Annotated[After, Query()],
) -> FailurePage:
    """A page of its studies that could not be retrieved."""
    with node.records.snapshot() as session:
        retrieval_jobs.show_job(session, job_id)
        failed = list(retrieval_jobs.failed_studies(session, job_id, _FAILURES + 1, page.after))
    following = failed[_FAILURES - 1].id if len(failed) > _FAILURES else None
    return FailurePage(failures=[Failure.model_validate(one) for one in failed[:_FAILURES]], next=following)


@_steering.post("/pause")
def pause(job_id: JobID, node: OfNode, caller: AnOperator) -> Job:
    """Stop it after the study in hand."""
    return _steer(Step.PAUSE, job_id, node, caller)


@_steering.post("/resume")
def resume(job_id: JobID, node: OfNode, caller: AnOperator) -> Job:
    """Let it go on."""
    return _steer(Step.RESUME, job_id, node, caller)


@_steering.post("/cancel")
def cancel(job_id: JobID, node: OfNode, caller: AnOperator) -> Job:
    """End it; what waits is not retrieved."""
    return _steer(Step.CANCEL, job_id, node, caller)


@_steering.post("/retry")
def retry(job_id: JobID, node: OfNode, caller: AnOperator) -> Job:
    """Try its failed studies again."""
    return _steer(Step.RETRY, job_id, node, caller)


router.include_router(_steering)


def _steer(step: Step, job_id: int, node: Node, caller: Caller) -> Job:
    with node.records.writing() as session:
        steer(session, job_id, step, caller.who, utc_now())
    with node.records.snapshot() as session:
        return Job.of(retrieval_jobs.show_job(session, job_id))
