"""The first page: today's numbers, what waits, who works, where results go, and what is stuck."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.attendance import attendance
from service.records import figures
from service.records.database import utc_now
from service.records.peers_seen import Reach
from service.records.standing import Verdict
from service.records.states import WAITING, AnalysisState
from service.rules.rulebook import Rules
from service.web.node import Node, OfNode
from service.web.pages.footing import AT_ONCE_SECONDS, OfPages
from service.web.present import health, midnight
from service.web.visitors import AViewer

router = APIRouter()

_MODALITIES: Final = 12
"""As many are listed, and all that are silent for longer than usual."""


@router.get("/")
def overview(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    return pages.rendering.page(request, "overview.html", visitor, **_values(node))


@router.get("/overview/now")
def now(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """What changes on it."""
    return pages.rendering.page(request, "overview_now.html", visitor, **_values(node))


def _values(node: Node) -> dict[str, Any]:
    settings, rules = node.settings, node.rulebook.rules()
    with node.records.snapshot() as session:
        today = figures.today(session, midnight(settings))
        queue = figures.queue(session)
        destinations = figures.destinations(session, rules.addresses)
        webhooks = figures.webhooks(session, settings.webhook_names)
        processes = attendance(session, settings.data_dir, utc_now())
    ended = {state.value for state in AnalysisState} - set(WAITING)
    return {
        "today": sum(today.values()),
        "today_by_state": sorted(today.items(), key=lambda pair: -pair[1]),
        "today_ended": sum(count for state, count in today.items() if state in ended),
        "queue": queue,
        "waiting": sum(line.queued for line in queue),
        "running": sum(line.running for line in queue),
        "destinations": destinations,
        "gets": _what_each_gets(rules),
        "webhooks": webhooks,
        "down": sum(line.seen.reach is Reach.DOWN for line in destinations)
        + sum(line.seen.reach is Reach.DOWN for line in webhooks),
        "processes": processes,
        "silent_processes": sum(line.is_silent for line in processes),
        "reckoned": node.reckoning.within(AT_ONCE_SECONDS),
        "verdicts": list(Verdict),
        "health": health(node),
        **_modalities(node),
    }


def _what_each_gets(rules: Rules) -> dict[str, str]:
    """Results or images, by destination; one that the rules do not name any more gets nothing new."""
    results = {to.address for to in rules.destinations}
    images = {to.address for to in rules.image_destinations}
    words = dict.fromkeys(results, "results") | dict.fromkeys(images, "images")
    return words | dict.fromkeys(results & images, "results, images")


def _modalities(node: Node) -> dict[str, Any]:
    """Those that have been silent for longer than usual before all others."""
    heard, now = node.silences.within(AT_ONCE_SECONDS), utc_now()
    lines = sorted(heard or (), key=lambda one: (not one.is_unusual(now), one.calling_ae_title))
    unusual = sum(one.is_unusual(now) for one in lines)
    return {
        "heard": heard is not None,
        "modalities": lines[: max(_MODALITIES, unusual)],
        "more_modalities": max(0, len(lines) - max(_MODALITIES, unusual)),
        "silent": unusual,
    }
