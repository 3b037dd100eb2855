"""A worker as the node starts it, as a process of Celery's, on records of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.records.database import Records
from service.records.migrate import migrate
from service.settings import Settings
from service.supervisor import worker_command
from tests.processes import Process, running

PARTS: Final = (("analysis", "prefork"), ("delivery", "solo"))
"""The queues, and the pool that listens to each."""


@contextmanager
def celery_worker(settings: Settings, part: str, pool: str, folder: Path) -> Iterator[Process]:
    """Runs it until the block ends."""
    records = Records.open(settings)
    migrate(records.engine)
    records.close()
    with running(
        worker_command(part, pool, "INFO"),
        log=folder / "worker.log",
        environment=settings.as_environment(),
        folder=folder,
    ) as worker:
        yield worker
