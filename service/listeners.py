"""Several listener processes on one port: the kernel gives each connection to one of them (SO_REUSEPORT).

One process of Python receives with one core at a time, whatever the number of its associations.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self

from service.errors import SettingsError
from service.settings import Settings
from service.supervised import STOP_SECONDS, Child
from service.wire.door import share

SHARED_PORT: Final = "--shared-port"
"""The option of ``litegpt-node listen`` by which it shares its ports."""

_TENDS_EVERY_SECONDS: Final = 0.2


@dataclass(slots=True)
class Listeners:
    """Listener processes, each started again when it ends.

    Attributes:
        ports: Those that they share, by the names of their settings.
    """

    children: list[Child]
    ports: dict[str, int]
    _held: list[socket.socket] = field(repr=False)

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Starts as many as the settings ask for.

        Raises:
            SettingsError: If a port cannot be bound, or this machine's ports cannot be shared.
        """
        held = {
            name: _hold(settings.dicom_host, port)
            for name, port in (
                ("dicom_port", settings.dicom_port),
                ("dicom_tls_port", settings.dicom_tls_port),
            )
            if port is not None
        }
        ports = {name: int(held[name].getsockname()[1]) for name in held}
        environment = os.environ | settings.model_copy(update=ports).as_environment()
        command = [sys.executable, "-m", "service.cli.main", "listen", SHARED_PORT]
        children = [
            Child(f"listener {number + 1}", command, environment)
            for number in range(settings.listener_processes)
        ]
        for child in children:
            child.start()
        return cls(children, ports, list(held.values()))

    def tend(self) -> None:
        """Starts those again that have ended."""
        for child in self.children:
            child.tend()

    def run(self, stop: threading.Event) -> None:
        """Tends them until ``stop`` is set, and ends them."""
        try:
            while not stop.wait(_TENDS_EVERY_SECONDS):
                self.tend()
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends them with what they have in hand."""
        for child in self.children:
            child.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            child.stop(deadline)
        for one in self._held:
            one.close()


def _hold(host: str, port: int) -> socket.socket:
    """A port that is bound and not listened at: no other user gets it, and a 0 becomes a number.

    That nobody has it already is asked without sharing first: two nodes by accident on one port would each
    get half of what is sent.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
        shared = socket.socket(family)
        share(shared)
        shared.bind((host, port))
    except OSError as error:
        raise SettingsError(f"port {port} on {host}: {error.strerror}") from None
    return shared
