"""The first page: today's numbers, what waits, where results go, and what is stuck."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from datetime import time as time_of_day
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.archive import Archive
from service.errors import NodeError
from service.heartbeat import last_beat
from service.records import figures
from service.records.database import utc_now
from service.records.standing import Verdict
from service.records.tables import (
    WAITING,
    AnalysisState,
)
from service.settings import Settings
from service.sweeper import PART
from service.web.node import Node, OfNode
from service.web.pages.footing import Footing, OfPages
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
        today = figures.today(session, _midnight(settings))
        queue = figures.queue(session)
        destinations = figures.destinations(session, settings.addresses)
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
        "health": _health(node),
    }


def _midnight(settings: Settings) -> datetime:
    day = utc_now().astimezone(settings.zone).date()
    return datetime.combine(day, time_of_day.min, settings.zone).astimezone(UTC)


def _health(node: Node) -> list[dict[str, Any]]:
    """A line for each thing that the node stands on; the disk by its numbers."""
    lines = []
    for line in node.readiness.ask():
        told = line.complaint or line.fact
        if line.name == "sweeper" and (beat := last_beat(node.settings.data_dir, PART)):
            told += f", last {max(0, round(time.time() - beat))} s ago"
        lines.append({"name": line.name, "ok": line.complaint is None, "says": told})
    try:
        free = Archive(node.settings.data_dir).free_bytes()
        least = node.settings.minimum_free_bytes
        says = f"{free / 1e9:,.1f} GB free; images are refused below {least / 1e9:g} GB"
        lines.append({"name": "disk", "ok": free >= least, "says": says})
    except (OSError, NodeError) as error:
        lines.append({"name": "disk", "ok": False, "says": getattr(error, "strerror", None) or str(error)})
    return lines
