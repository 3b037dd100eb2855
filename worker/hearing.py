"""How a worker hears a bell: once, and the next one whatever became of the first."""

from __future__ import annotations

from celery.worker.request import Request
from kombu.transport import virtual


class Hearing(Request):  # type: ignore[misc]
    """A bell that the worker has heard."""

    def acknowledge(self) -> None:
        """Tells the broker; where it does not listen, the worker hears the next bell all the same.

        Kombu 5.7 counts such a bell as one that the worker still works on, and with no more than one at a
        time it would be deaf until its connection ends. The broker rings it again, which costs a look.
        """
        super().acknowledge()
        message = self.message
        if not message.acknowledged and isinstance(message.channel, virtual.Channel):
            virtual.QoS.ack(message.channel.qos, message.delivery_tag)  # type: ignore[no-untyped-call]
