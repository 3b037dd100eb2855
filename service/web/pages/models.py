"""The models of the node, and what each of them has read."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.web.node import OfNode, roster_of_node
from service.web.pages.footing import OfPages
from service.web.visitors import AViewer

router = APIRouter()

_AT_ONCE_SECONDS: Final = 0.1
"""How long the page waits for figures; then it shows those that were counted before, if any."""


@router.get("/models")
def models(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    roster = roster_of_node(node)
    node.by_model.begin()
    node.by_model.is_answered_by(time.monotonic() + _AT_ONCE_SECONDS)
    return pages.rendering.page(request, "models.html", visitor, roster=roster, figures=node.by_model.last)
