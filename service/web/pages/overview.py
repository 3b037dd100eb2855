"""The first page: today's numbers, what waits, where results go, and what is stuck."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.records import figures
from service.records.standing import Verdict
from service.records.tables import WAITING, AnalysisState
from service.web.node import Node, OfNode
from service.web.pages.footing import Footing, OfPages
from service.web.present import health, midnight
from service.web.visitors import AViewer

router = APIRouter()


@router.get("/")
def overview(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    return pages.rendering.page(request, "overview.html", visitor, **_values(node, pages))


@router.get("/overview/now")
def now(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """What changes on it."""
    return pages.rendering.page(request, "overview_now.html", visitor, **_values(node, pages))


def _values(node: Node, pages: Footing) -> dict[str, Any]:
    settings = node.settings
    with node.records.snapshot() as session:
        today = figures.today(session, midnight(settings))
        queue = figures.queue(session)
        configured = tuple(to.address for to in node.rulebook.rules().destinations)
        destinations = figures.destinations(session, configured)
    ended = {state.value for state in AnalysisState} - set(WAITING)
    return {
        "today": sum(today.values()),
        "today_by_state": sorted(today.items(), key=lambda pair: -pair[1]),
        "today_ended": sum(count for state, count in today.items() if state in ended),
        "queue": queue,
        "waiting": sum(line.queued for line in queue),
        "running": sum(line.running for line in queue),
        "destinations": destinations,
        "reckoned": pages.reckoning.ask(node.records),
        "verdicts": list(Verdict),
        "health": health(node),
    }
