"""The settings as this process sees them, without what is secret in them."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from service.settings import PREFIX, Settings
from service.web.node import OfNode
from service.web.pages.footing import OfPages
from service.web.visitors import AViewer

router = APIRouter()

MASK = "***"


@dataclass(frozen=True, slots=True)
class Line:
    """One setting: its value as it would be written, and whether it is the default."""

    name: str
    variable: str
    value: str
    default: bool
    meaning: str


@router.get("/settings")
def configuration(request: Request, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    return pages.rendering.page(
        request,
        "settings.html",
        visitor,
        lines=lines_of(node.settings),
        rules=node.rulebook.rules(),
        complaint=node.rulebook.complaint(),
    )


def lines_of(settings: Settings) -> list[Line]:
    """Every setting; passwords in addresses are masked."""
    return [
        Line(
            name=name,
            variable=f"{PREFIX}{name.upper()}",
            value=_written(getattr(settings, name)),
            default=getattr(settings, name) == field.default,
            meaning=(field.description or "").replace("`", ""),
        )
        for name, field in Settings.model_fields.items()
    ]


def _written(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    text = str(value)
    return _masked(text) if "://" in text else text


def _masked(url: str) -> str:
    """An address without its password, or without anything where it cannot be taken apart."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return MASK
    # Drivers also take passwords as parameters.
    return parts.set(query=dict.fromkeys(parts.query, MASK)).render_as_string(hide_password=True)
