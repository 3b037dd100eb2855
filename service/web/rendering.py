"""Pages from templates; everything that is put in is escaped."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from litegpt.overlay import label_colour
from litegpt.vocabulary import LABELS
from service.records.database import utc_now
from service.settings import Settings
from service.web.visitors import Visitor

DEMONSTRATION: Final = (
    "Demonstration model, trained on synthetic images: what it says about a patient means nothing."
)

_TONES: Final = {
    "delivered": "good",
    "done": "good",
    "sent": "good",
    "committed": "good",
    "settled": "good",
    "active": "good",
    "shadow": "busy",
    "failed": "bad",
    "refused": "bad",
    "no-association": "bad",
    "try-again": "bad",
    "conflict": "bad",
    "stuck": "bad",
    "queued": "busy",
    "running": "busy",
    "receiving": "busy",
    "delivering": "busy",
    "due": "busy",
    "open": "busy",
    "finding": "busy",
    "paused": "bad",
}
"""How a state is coloured; it is always written, too."""


class Rendering:
    """The templates of one application."""

    def __init__(self, settings: Settings) -> None:
        self._zone = settings.zone
        self._templates = Environment(
            loader=PackageLoader("service.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "moment": self._moment,
            "clock": self._clock,
            "age": age,
            "since": lambda at: age(utc_now() - at),
            "number": lambda number: f"{number:,}",
            "size": _size,
            "day": _day,
            "tone": lambda state: _TONES.get(state, "plain"),
            "colour": lambda label: "#{:02x}{:02x}{:02x}".format(*label_colour(label)),
            "label_number": lambda label: LABELS.index(label) if label in LABELS else len(LABELS),
        }
        self._templates.globals |= {
            "ae_title": settings.ae_title,
            "zone": settings.time_zone,
            "demonstration_warning": DEMONSTRATION,
        }

    def page(
        self, request: Request, template: str, visitor: Visitor | None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page, or a piece of one, as HTML."""
        text = self._templates.get_template(template).render(
            visitor=visitor, path=request.url.path, now=utc_now(), **values
        )
        return HTMLResponse(text, status)

    def _moment(self, at: datetime | None) -> str:
        return f"{at.astimezone(self._zone):%Y-%m-%d %H:%M:%S}" if at else ""

    def _clock(self, at: datetime) -> str:
        return f"{at.astimezone(self._zone):%H:%M:%S}"


def age(span: timedelta) -> str:
    """A span of time in its two largest units."""
    seconds = max(0, int(span.total_seconds()))
    for unit, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= unit:
            return f"{seconds // unit} {name} {seconds % unit // smaller} {smaller_name}"
    return f"{seconds} s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _day(date: str) -> str:
    """A DICOM date, ``YYYYMMDD``, for people."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date
