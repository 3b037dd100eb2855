"""What the commands that run a part of the node have in common: told to stop, and records to stand on."""

from __future__ import annotations

import signal
import threading

from service.records.database import Records
from service.settings import Settings


def stop_on_signals(stop: threading.Event) -> None:
    """Sets ``stop`` at SIGINT or SIGTERM; a second SIGINT ends the process at once."""

    def ask(*_: object) -> None:
        stop.set()
        # Whoever presses Ctrl-C again does not want to wait. Workers are tied to us and end too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)


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
