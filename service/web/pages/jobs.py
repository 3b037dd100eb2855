"""Backlog jobs: the list of them, and one with how far it is, what failed, and what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from service import heartbeat
from service.records import retrieval_jobs
from service.records.database import utc_now
from service.records.retrieval_jobs import JobView
from service.records.states import JobState, Role
from service.retrieval.filters import Filters
from service.retrieval.retriever import PART
from service.retrieval.steering import Step, possible, steer
from service.retrieval.window import Window, is_open
from service.settings import Settings
from service.web.node import Node, OfNode
from service.web.pages.footing import AT_ONCE_SECONDS, OfPages
from service.web.visitors import AForm, AnOperator, AViewer, Visitor

router = APIRouter()

_ROWS: Final = 25
_FAILED: Final = 50
_NUMBERS: Final = 2_000
"""Of a longer list of accession numbers it is not looked up which have no study."""

JobID = Annotated[int, Path(ge=1, lt=2**31)]
After = Annotated[int, Query(ge=0, lt=2**31)]
Before = Annotated[int | None, Query(ge=1, lt=2**31)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A job as it is shown.

    Attributes:
        job: The job.
        filters: Which studies it asks for; the pages do not tell whose id is among them.
        waits: What it waits for; empty where it works, or is over.
    """

    job: JobView
    filters: Filters
    waits: str

    @property
    def asks_for(self) -> str:
        """The filters in a line."""
        return self.filters.in_words(with_patient=False)


@router.get("/jobs")
def jobs(request: Request, node: OfNode, pages: OfPages, visitor: AViewer, before: Before = None) -> Response:
    """The list, newest first."""
    return pages.rendering.page(request, "jobs.html", visitor, **_list(node, before))


@router.get("/jobs/now")
def jobs_now(
    request: Request, node: OfNode, pages: OfPages, visitor: AViewer, before: Before = None
) -> Response:
    """What changes on it."""
    return pages.rendering.page(request, "jobs_now.html", visitor, **_list(node, before))


@router.get("/jobs/{job_id}")
def job(
    request: Request, job_id: JobID, node: OfNode, pages: OfPages, visitor: AViewer, after: After = 0
) -> Response:
    """One of them."""
    return pages.rendering.page(request, "job.html", visitor, **_one(node, job_id, after, visitor))


@router.get("/jobs/{job_id}/now")
def job_now(
    request: Request, job_id: JobID, node: OfNode, pages: OfPages, visitor: AViewer, after: After = 0
) -> Response:
    """What changes on its page."""
    return pages.rendering.page(request, "job_now.html", visitor, **_one(node, job_id, after, visitor))


@router.post("/jobs/{job_id}/{step}")
def act(job_id: JobID, step: Step, node: OfNode, visitor: AnOperator, form: AForm) -> Response:
    """Pauses, resumes, cancels it, or has it try again what failed."""
    with node.records.writing() as session:
        steer(session, job_id, step, visitor.name, utc_now())
    return RedirectResponse(f"/jobs/{job_id}", 303)


def _list(node: Node, before: int | None) -> dict[str, Any]:
    progress = node.job_progress.within(AT_ONCE_SECONDS)
    with node.records.snapshot() as session:
        rows = retrieval_jobs.list_jobs(session, _ROWS + 1, before, progress=progress or {})
    return {
        "rows": [_shown(row, node.settings) for row in rows[:_ROWS]],
        "counted": progress is not None,
        "older": rows[_ROWS - 1].id if len(rows) > _ROWS else None,
        "before": before,
        "nobody_retrieves": _nobody_retrieves(rows, node.settings),
    }


def _one(node: Node, job_id: int, after: int, visitor: Visitor) -> dict[str, Any]:
    progress = node.job_progress.within(AT_ONCE_SECONDS)
    with node.records.snapshot() as session:
        view = retrieval_jobs.show_job(session, job_id, progress=progress or {})
        shown = _shown(view, node.settings)
        failed = list(retrieval_jobs.failed_studies(session, job_id, _FAILED + 1, after))
        missing = _without_study(session, shown)
    return {
        "shown": shown,
        "job": view,
        "counted": progress is not None,
        "failed": failed[:_FAILED],
        "more_failed": failed[_FAILED - 1].id if len(failed) > _FAILED else None,
        "after": after,
        "missing": missing,
        "questions": shown.filters.question_count,
        "steps": possible(view) if visitor.may(Role.OPERATOR) else (),
        "nobody_retrieves": _nobody_retrieves([view], node.settings),
    }


def _shown(job: JobView, settings: Settings) -> Shown:
    return Shown(job, Filters.model_validate_json(job.filters), _waits(job, settings))


def _waits(job: JobView, settings: Settings) -> str:
    if not job.is_active:
        return job.error if job.state == JobState.PAUSED else ""
    if not is_open(job.daily_window, utc_now(), settings.zone):
        return f"waits for {Window.parse(job.daily_window).opens:%H:%M}"
    return job.error


def _without_study(session: Session, shown: Shown) -> list[str]:
    numbers = shown.filters.accession_numbers
    if shown.job.found_at is None or len(numbers) > _NUMBERS:
        return []
    return retrieval_jobs.not_found(session, shown.job.id, numbers)


def _nobody_retrieves(jobs: list[JobView], settings: Settings) -> bool:
    """Whether something is to be retrieved and no retriever runs."""
    return any(job.is_active for job in jobs) and not heartbeat.is_beating_anywhere(settings.data_dir, PART)
