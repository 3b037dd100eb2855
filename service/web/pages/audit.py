"""The audit: who did what, paged, and as a table for a spreadsheet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from service.records import journal
from service.records.database import Records
from service.web.node import OfNode
from service.web.pages.footing import OfPages
from service.web.visitors import AnAdmin

router = APIRouter()

_ROWS = 100


@router.get("/audit")
def audit(
    request: Request,
    node: OfNode,
    pages: OfPages,
    visitor: AnAdmin,
    before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> Response:
    """A page of it, newest first."""
    with node.records.reading() as session:
        events = journal.events(session, before, _ROWS + 1)
    more = events[_ROWS - 1].id if len(events) > _ROWS else None
    return pages.rendering.page(
        request, "audit.html", visitor, events=events[:_ROWS], more=more, begins_later=before is not None
    )


@router.get("/audit.csv")
def export(node: OfNode, visitor: AnAdmin) -> Response:
    """All of it."""
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return StreamingResponse(_lines(node.records), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(records: Records) -> Iterator[str]:
    yield _line(["at", "who", "action", "asked", "outcome"])
    for event in journal.all_events(records):
        asked, outcome = (json.dumps(one, ensure_ascii=False) for one in (event.asked, event.outcome))
        yield _line([event.at.isoformat(), event.who, event.action, asked, outcome])


def _line(cells: list[str]) -> str:
    out = StringIO()
    csv.writer(out).writerow(map(_plain, cells))
    return out.getvalue()


def _plain(cell: str) -> str:
    """A spreadsheet must not take a cell for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
