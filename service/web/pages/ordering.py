"""Ordering a backlog from a PACS: a form, then how many studies that means, and then the job."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from service.eligibility import MODALITIES
from service.errors import NeverAgain
from service.records import retrieval_jobs
from service.records.database import utc_now
from service.retrieval.order import Order, read_filters, read_rate, read_source, read_window
from service.settings import Settings
from service.web.counts import Count
from service.web.node import Node, OfNode
from service.web.pages.footing import Footing, OfPages
from service.web.visitors import AForm, AnOperator, Visitor
from service.wire.retrieval import Method

router = APIRouter()

_AT_ONCE_SECONDS: Final = 1.0
"""What is counted so soon needs no page that says it goes on."""

_FIELDS: Final = (
    *("source", "since", "until", "modality", "body_part", "patient_id", "accessions"),
    *("method", "rate", "window", "again"),
)
_LONGEST: Final = {"accessions": 500_000}
_LONGEST_OF_OTHERS: Final = 200
_MOST_NUMBERS: Final = 5_000
_KNOWN: Final = 50


@router.get("/jobs/new")
def new(request: Request, node: OfNode, pages: OfPages, visitor: AnOperator) -> Response:
    """The form, empty."""
    return _form(request, node, pages, visitor, {"modality": ", ".join(MODALITIES)})


@router.post("/jobs/new")
def look(request: Request, node: OfNode, pages: OfPages, visitor: AnOperator, form: AForm) -> Response:
    """Begins to count what is ordered; the form again where that cannot be."""
    asked = {name: str(form.get(name) or "").strip() for name in _FIELDS}
    try:
        order = read_order(asked, node.settings)
    except ValueError as error:
        return _form(request, node, pages, visitor, asked, complaint=str(error))
    count = Count(who=visitor.name, order=order, asked=tuple(asked.items()), settings=node.settings)
    pages.counts.begin(node.records, count)
    count.ended.wait(_AT_ONCE_SECONDS)
    return RedirectResponse(f"/jobs/counts/{count.id}", 303)


@router.get("/jobs/counts/{count_id}")
def count(request: Request, count_id: str, pages: OfPages, visitor: AnOperator) -> Response:
    """How many studies there are so far, and the button that makes the job."""
    return pages.rendering.page(request, "count.html", visitor, count=_count(pages, count_id, visitor))


@router.get("/jobs/counts/{count_id}/now")
def count_now(request: Request, count_id: str, pages: OfPages, visitor: AnOperator) -> Response:
    """What changes on that page."""
    return pages.rendering.page(request, "count_now.html", visitor, count=_count(pages, count_id, visitor))


@router.post("/jobs/counts/{count_id}")
def place(
    request: Request, count_id: str, node: OfNode, pages: OfPages, visitor: AnOperator, form: AForm
) -> Response:
    """Makes the job, where ``step`` says ``do``; else the form again, as it was."""
    found = _count(pages, count_id, visitor)
    if form.get("step") != "do":
        found.break_off()
        return _form(request, node, pages, visitor, dict(found.asked))
    return RedirectResponse(f"/jobs/{found.place(node.records)}", 303)


def read_order(asked: Mapping[str, str], settings: Settings) -> Order:
    """An order by the texts of a form.

    Raises:
        ValueError: One line that says what is wrong.
    """
    for name, text in asked.items():
        if len(text) > _LONGEST.get(name, _LONGEST_OF_OTHERS):
            raise ValueError(f"That is too long for {name.replace('_', ' ')}.")
    numbers = tuple(dict.fromkeys(filter(None, map(str.strip, re.split(r"[\n,;]", asked["accessions"])))))
    if len(numbers) > _MOST_NUMBERS:
        raise ValueError(
            f"{len(numbers):,} accession numbers are too many for a form; litegpt-node retrieve takes a file."
        )
    filters = read_filters(
        utc_now().astimezone(settings.zone).date(),
        _day(asked["since"]),
        _day(asked["until"]),
        modalities=tuple(re.findall(r"[^\s,;/]+", asked["modality"].upper())),
        body_part=asked["body_part"],
        patient_id=asked["patient_id"],
        accession_numbers=numbers,
    )
    if asked["method"] not in ("", *Method):
        raise ValueError("Images come by C-MOVE or by C-GET.")
    return Order(
        source=read_source(asked["source"]),
        filters=filters,
        method=Method(asked["method"] or Method.MOVE),
        again=bool(asked["again"]),
        rate_per_hour=_rate(asked["rate"]),
        daily_window=read_window(asked["window"]),
    )


def _form(
    request: Request,
    node: Node,
    pages: Footing,
    visitor: Visitor,
    asked: Mapping[str, str],
    complaint: str = "",
) -> Response:
    values: dict[str, Any] = {
        "asked": dict.fromkeys(_FIELDS, "") | dict(asked),
        "complaint": complaint,
        "sources": _sources(node),
    }
    return pages.rendering.page(request, "order.html", visitor, 422 if complaint else 200, **values)


def _sources(node: Node) -> list[str]:
    """The PACS of the last jobs, and where results go: one of them it will be."""
    with node.records.reading() as session:
        jobs = retrieval_jobs.list_jobs(session, _KNOWN, progress={})
    addresses = [job.source for job in jobs] + [to.address for to in node.settings.destinations]
    return list(dict.fromkeys(addresses))


def _count(pages: Footing, count_id: str, visitor: Visitor) -> Count:
    found = pages.counts.find_of(visitor.name, count_id)
    if found is None:
        raise NeverAgain("That is long over, or the node was started anew since. No job was made.")
    return found


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date() if text else None
    except ValueError:
        raise ValueError("A day is written 2026-01-31.") from None


def _rate(text: str) -> float:
    try:
        rate = float(text or 0)
    except ValueError:
        rate = math.nan
    return read_rate(rate)
