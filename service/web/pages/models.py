"""The models of the node, and what each of them has read."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.web.node import OfNode, roster_of_node
from service.web.pages.footing import OfPages
from service.web.visitors import AViewer

router = APIRouter()


@router.get("/models")
def models(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    roster = roster_of_node(node)
    return pages.rendering.page(
        request, "models.html", visitor, roster=roster, figures=node.counted_by_model()
    )
