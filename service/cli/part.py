"""What the commands that run a part of the node have in common: told to stop, and records to stand on."""

from __future__ import annotations

import signal
import socket
import threading
from typing import Final

from service.records.database import Records
from service.settings import Settings

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def stop_on_signals(stop: threading.Event) -> None:
    """Sets ``stop`` at SIGINT or SIGTERM; a second SIGINT ends the process at once.

    A thread of its own sets it, told by the interpreter's part in C (``signal.set_wakeup_fd``). Were it set
    by the Python handler, a process might never end: the handler runs only in the main thread, which a
    signal that came to another thread does not wake, and in the midst of its own ``stop.wait``, whose lock
    ``stop.set`` would wait for.
    """
    told, teller = socket.socketpair()
    teller.setblocking(False)
    for number in _STOP_SIGNALS:
        signal.signal(number, _end_at_the_next_interrupt)
    signal.set_wakeup_fd(teller.detach())
    threading.Thread(target=_set_when_told, args=(told, stop), name="signals", daemon=True).start()


def _set_when_told(told: socket.socket, stop: threading.Event) -> None:
    while told.recv(1)[0] not in _STOP_SIGNALS:
        pass
    stop.set()


def _end_at_the_next_interrupt(*_: object) -> None:
    # Whoever presses Ctrl-C again does not want to wait. Workers are tied to us and end too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def require_records(settings: Settings) -> None:
    """Looks whether the database answers and has the tables that this version knows.

    Raises:
        SettingsError: If not.
    """
    records = Records.open(settings)
    try:
        records.require_schema()
    finally:
        records.close()
