"""The queue as the node sees it: a doorbell. A message says "there is work" and nothing else.

What work there is stands in the records (DESIGN decision 1), so a lost, late or doubled message costs nothing
but a look. The worker's side is ``worker.app``; both read the same configuration from here.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.errors import OutOfResources
from service.settings import Settings

log = logging.getLogger(__name__)

ANALYSIS: Final = "analysis"
DELIVERY: Final = "delivery"
TASKS: Final = {ANALYSIS: "worker.tasks.analyse", DELIVERY: "worker.tasks.deliver"}
"""The task that answers each queue's bell."""

UNHEARD_BELLS: Final = 20
"""The sweeper rings again while work waits. Where nobody hears, no more of them lie there than that: one for
each of so many workers. They do not expire instead: a worker whose clock is ahead would hear none."""

_SOCKET_TIMEOUT_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 30
"""A Redis that acknowledges nothing for so long is gone: a worker that waits for a bell connects anew."""

_LOADING_SECONDS: Final = 900
"""A worker's process that has not begun to work after this is ended, with its model half loaded."""
_FILE_POLLING_SECONDS: Final = 0.1


def celery_configuration(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for both sides of the queue."""
    broker_url, transport_options = _broker(settings)
    return {
        "broker_url": broker_url,
        "broker_transport_options": transport_options,
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": _SOCKET_TIMEOUT_SECONDS,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_default_queue": ANALYSIS,
        "task_routes": {task: {"queue": queue} for queue, task in TASKS.items()},
        "worker_prefetch_multiplier": 1,
        "worker_proc_alive_timeout": _LOADING_SECONDS,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": settings.broker_url is not None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
    }


def _broker(settings: Settings) -> tuple[str, dict[str, Any]]:
    if settings.broker_url is not None:
        return settings.broker_url, {
            # Without these a Redis that accepts and never answers would block the caller for good.
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": _SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive(),
        }
    folder = settings.data_dir.absolute() / "broker"
    return "filesystem://localhost", {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "processed_folder": str(folder / "processed"),
        # Messages are moved before they are read; the system's temporary folder may be another disk.
        "store_processed": True,
        "control_folder": str(folder / "control"),
        "polling_interval": _FILE_POLLING_SECONDS,
    }


def _keepalive() -> dict[int, int]:
    """Options of a TCP socket that asks into a silence, and ends it; Linux knows all of them."""
    wanted = {
        "TCP_KEEPIDLE": _SILENCE_SECONDS // 3,
        "TCP_KEEPINTVL": _SILENCE_SECONDS // 3,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": _SILENCE_SECONDS * 1000,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def prepare_broker(settings: Settings) -> None:
    """Makes the folders of an embedded broker; nothing to do for a real one.

    Closed to others by their own modes: ``celery`` asks for them before it begins to be a worker.
    """
    if settings.broker_url is None:
        broker = settings.data_dir.absolute() / "broker"
        broker.parent.parent.mkdir(parents=True, exist_ok=True)
        for folder in (
            broker.parent,
            broker,
            *(broker / name for name in ("messages", "processed", "control")),
        ):
            folder.mkdir(mode=0o700, exist_ok=True)


def sweep_broker(settings: Settings) -> None:
    """Removes the bells that an embedded broker has heard."""
    if settings.broker_url is None:
        for message in Path(settings.data_dir.absolute() / "broker" / "processed").glob("*.msg"):
            message.unlink(missing_ok=True)


class Bell:
    """Rings at the workers' door. Only ever called after a commit, and never on a DICOM thread."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("litegpt-bell", set_as_current=False)
        self._app.conf.update(celery_configuration(settings))

    def ring(self, queue: str) -> None:
        """Says that there is work in ``queue``.

        Raises:
            OutOfResources: If the broker is away; the sweeper will ring again.
        """
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                if producer.channel._size(queue) < UNHEARD_BELLS:
                    self._app.send_task(
                        TASKS[queue], producer=producer, queue=queue, retry=False, ignore_result=True
                    )
        except (OperationalError, RedisError, OSError) as error:
            raise OutOfResources(f"the broker does not take messages: {error}") from error

    def check(self) -> None:
        """Asks whether the broker answers.

        Raises:
            OutOfResources: If it does not.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=_SOCKET_TIMEOUT_SECONDS)
        except (OperationalError, RedisError, OSError) as error:
            raise OutOfResources(f"the broker does not answer: {error}") from error

    def close(self) -> None:
        """Gives the connections back."""
        self._app.close()
