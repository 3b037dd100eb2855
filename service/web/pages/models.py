"""The models of the node, and what each of them has read."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from litegpt.errors import ModelError
from service.errors import SettingsError
from service.models.roster import Roster, roster_of
from service.web.node import Node, OfNode
from service.web.pages.footing import OfPages
from service.web.visitors import AViewer

router = APIRouter()

_AT_ONCE_SECONDS: Final = 0.3
"""How long the page waits for figures; then it shows those that were counted before, if any."""


@router.get("/models")
def models(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    roster = _roster(node)
    node.by_model.begin()
    node.by_model.is_answered_by(time.monotonic() + _AT_ONCE_SECONDS)
    return pages.rendering.page(request, "models.html", visitor, roster=roster, figures=node.by_model.last)


def _roster(node: Node) -> Roster:
    with node.records.reading() as session:
        try:
            return roster_of(session, node.settings)
        except ModelError as error:
            raise SettingsError(f"The model of the settings cannot be read: {error}") from error
