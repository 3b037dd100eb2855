"""The list of studies, with filters that live in its address."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from litegpt.vocabulary import LABELS
from service.records.states import InstanceState
from service.records.worklist import page_of
from service.web.filters import Filters, read_key, states, write_key
from service.web.node import OfNode
from service.web.pages.acting import offers
from service.web.pages.footing import OfPages
from service.web.visitors import AViewer

router = APIRouter()


@router.get("/studies")
def studies(request: Request, node: OfNode, pages: OfPages, visitor: AViewer, after: str = "") -> Response:
    """A page of it."""
    filters = Filters.read(request.query_params)
    selection, key = filters.selection(node.settings.zone), read_key(after)
    with node.records.snapshot() as session:
        page = page_of(session, selection, key)
    return pages.rendering.page(
        request,
        "studies.html",
        visitor,
        filters=filters,
        page=page,
        begins_later=bool(after),
        following=filters.query(("after", write_key(page.after))) if page.after else "",
        states=states(),
        labels=LABELS,
        destinations=node.rulebook.rules().addresses,
        actions=offers(visitor, filters.state == InstanceState.CONFLICT),
    )
