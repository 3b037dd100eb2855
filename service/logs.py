"""How a process of the node logs: one line an event, to standard error. Only ``main`` calls this.

As text for a person, or as a JSON object a line for programs that collect logs.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

from service.errors import in_words

log = logging.getLogger(__name__)

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

LOUD: Final = (
    "alembic",
    "celery.app.trace",
    "celery.worker.request",
    "celery.worker.strategy",
    "highdicom",
    "httpcore",
    "httpx",
    "kombu",
    "pynetdicom",
    "sqlalchemy",
    "uvicorn",
)
"""Libraries whose every-day messages would drown ours; httpx would tell whole addresses, whose paths may be
secrets of the webhooks' receivers."""

_STUDY: Final = re.compile(r"\bstudy (\d+(?:\.\d+)+)")
_ANALYSIS: Final = re.compile(r"\banalysis (\d+)\b")


class LogFormat(StrEnum):
    """What a line is."""

    TEXT = "text"
    JSON = "json"


class Discreet(logging.Formatter):
    """Tells where an error came from, and of its words only those that quote nobody."""

    def formatException(self, ei: Any) -> str:
        """The traceback, with all that led to the error, the first of it first."""
        return "\n".join(_told(ei[1], set())) if ei[1] is not None else ""


def _told(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _told(before, told)
        yield "\nwhich led to:\n"
    yield "Traceback (most recent call last):"
    yield from (text.rstrip("\n") for text in traceback.format_tb(error.__traceback__))
    yield in_words(error)


class JSONLine(Discreet):
    """An event as a JSON object.

    ``time``, ``level``, ``logger``, ``message``; ``study`` (its UID) and ``analysis`` (its number) where the
    message names them; ``traceback`` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        message = record.getMessage()
        event: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if study := _STUDY.search(message):
            event["study"] = study[1]
        if analysis := _ANALYSIS.search(message):
            event["analysis"] = int(analysis[1])
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event)


def configure(level: str, form: LogFormat = LogFormat.TEXT) -> None:
    """Sends everything from ``level`` up to standard error, and from other libraries only warnings."""
    logging.basicConfig(level=level, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JSONLine() if form is LogFormat.JSON else Discreet(FORMAT))
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda end: _log_uncaught(end.exc_type, end.exc_value, end.exc_traceback)
    if form is LogFormat.JSON:
        # Python's own warnings are lines of another form.
        logging.captureWarnings(True)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom warns of every oddity in every header, and quotes it, patients' names included. Oddities that
    # matter are errors of ours.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """What nobody has caught, which Python would print with all of its words."""
    if error is not None and not isinstance(error, KeyboardInterrupt):
        log.critical("unforeseen fault", exc_info=(kind, error, trace))
