"""How a worker hears a bell: once, and the next one whatever became of the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.request import Request
from kombu.transport import virtual


class Hearing(Request):  # type: ignore[misc]
    """A bell that the worker has heard. Where the broker does not learn of it, it rings once more.

    Kombu 5.7 counts a message whose acknowledgement fails as one that the worker still works on. With no more
    than one at a time the worker would hear nothing until its connection ends.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        """As Celery makes it. Celery acknowledges the message itself, and later than it says so here."""
        super().__init__(message, **options)
        if isinstance(message.channel, virtual.Channel):
            message.ack = partial(_acknowledge, message, message.ack)


def _acknowledge(message: Any, acknowledge: Callable[..., None], **options: Any) -> None:
    if message.channel.closed:  # with its connection; what it had delivered was put back
        return
    try:
        acknowledge(**options)
    finally:
        if not message.acknowledged:
            virtual.QoS.ack(message.channel.qos, message.delivery_tag)  # type: ignore[no-untyped-call]
