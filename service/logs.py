"""How a process of the node logs: one line an event, to standard error. Only ``main`` calls this.

As text for a person, or as a JSON object a line for programs that collect logs.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

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


class JSONLine(logging.Formatter):
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
    logging.basicConfig(level=level, format=FORMAT, force=True)
    if form is LogFormat.JSON:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JSONLine())
        # Python's own warnings are lines of another form.
        logging.captureWarnings(True)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom warns of every oddity in every header, and quotes it, patients' names included. Oddities that
    # matter are errors of ours.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
