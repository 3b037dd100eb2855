"""The Celery application: ``celery -A worker.app worker --queues analysis``.

Importing this reads nothing. The settings are read when Celery first asks for its configuration, that is in
the ``celery`` command, which is this process's ``main``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)

from service import logs, queue
from service.errors import SettingsError
from service.metrics import own_port
from service.own_files import for_ourselves
from service.settings import Settings, load_settings
from service.wire.sender import configure_process

if TYPE_CHECKING:
    from worker.tasks import NodeTask

app = Celery("litegpt", include=["worker.tasks"])


@app.on_configure.connect  # type: ignore[untyped-decorator]
def _configure(sender: Celery, **_: Any) -> None:
    settings = _settings_of_process()
    queue.prepare_broker(settings)
    sender.config_from_object(queue.celery_configuration(settings))


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _write_for_ourselves(**_: Any) -> None:
    for_ourselves()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_as_the_node_does(**_: Any) -> None:
    settings = _settings_of_process()
    logs.configure(settings.log_level, settings.log_format)


@worker_init.connect  # type: ignore[untyped-decorator]
def _prepare(**_: Any) -> None:
    """In the parent, before the processes that will count and send are forked from it."""
    configure_process()
    own_port.count_alone(_settings_of_process())


@worker_ready.connect  # type: ignore[untyped-decorator]
def _tell_what_was_counted(**_: Any) -> None:
    own_port.tell(_settings_of_process())


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    """In each process that works: a forked one, or this one where there is no pool."""
    for task in _tasks():
        task.begin()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _say_goodbye(**_: Any) -> None:
    for task in _tasks():
        task.end()


def _tasks() -> Iterator[NodeTask]:
    """That of each queue that this worker listens to."""
    for name in queue.TASKS.keys() & app.amqp.queues.consume_from.keys():
        yield app.tasks[queue.TASKS[name]]


def _settings_of_process() -> Settings:
    """The settings; what is wrong with them is one line and exit code 2, as in ``litegpt-node``."""
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"litegpt-node worker: {error}\n")
        raise SystemExit(2) from None
