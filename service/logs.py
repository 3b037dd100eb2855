"""How a process of the node logs: one line an event, to standard error. Only ``main`` calls this."""

from __future__ import annotations

import logging
import warnings
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_LOUD: Final = (
    "alembic",
    "celery.app.trace",
    "celery.worker.request",
    "celery.worker.strategy",
    "highdicom",
    "kombu",
    "pynetdicom",
    "sqlalchemy",
    "uvicorn",
)
"""Libraries whose every-day messages would drown ours."""


def configure(level: str) -> None:
    """Sends everything from ``level`` up to standard error, and from other libraries only warnings."""
    logging.basicConfig(level=level, format=FORMAT, force=True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom warns of every oddity in every header, and quotes it, patients' names included. Oddities that
    # matter are errors of ours.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
