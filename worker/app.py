"""The Celery application: ``celery -A worker.app worker --queues analysis``.

Importing this reads nothing. The settings are read when Celery first asks for its configuration, that is in
the ``celery`` command, which is this process's ``main``.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from service import logs, queue
from service.settings import load_settings

app = Celery("litegpt", include=["worker.tasks"])


@app.on_configure.connect  # type: ignore[untyped-decorator]
def _configure(sender: Celery, **_: Any) -> None:
    settings = load_settings()
    queue.prepare_broker(settings)
    sender.config_from_object(queue.celery_configuration(settings))


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_as_the_node_does(**_: Any) -> None:
    logs.configure(load_settings().log_level)
