"""A process that is started again whenever it ends, and that ends with the one that has started it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

STOP_SECONDS: Final = 15.0
_RESTART_FIRST_SECONDS: Final = 1.0
_RESTART_MAXIMUM_SECONDS: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0


@dataclass(slots=True)
class Child:
    """A process that is started again when it ends."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    not_before: float = 0.0
    wait_seconds: float = _RESTART_FIRST_SECONDS

    def start(self) -> None:
        """Starts the process, tied to ours, in a group of its own: a Ctrl-C reaches it only through us."""
        command = [sys.executable, "-m", "service.tether", str(os.getpid()), *self.command]
        self.process = subprocess.Popen(command, env=self.environment, start_new_session=True)
        self.started_at = time.monotonic()

    def tend(self) -> None:
        """Starts the process again where it has ended and its wait is over."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.not_before:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        healthy = now - self.started_at > _HEALTHY_SECONDS
        self.wait_seconds = _RESTART_FIRST_SECONDS if healthy else self.wait_seconds
        log.error("%s ended with %d; starting it again in %.0f s", self.name, code, self.wait_seconds)
        self.process, self.not_before = None, now + self.wait_seconds
        self.wait_seconds = min(_RESTART_MAXIMUM_SECONDS, self.wait_seconds * 2)

    def ask_to_stop(self) -> None:
        """Asks the process to end with the work in hand."""
        if self.process is not None:
            self.process.terminate()

    def stop(self, deadline: float) -> None:
        """Waits for the process to end until ``deadline`` (on ``time.monotonic``'s clock), then kills it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s does not stop; it is killed", self.name)
            # The group and not its leader alone: Celery's pool process holds the GPU.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
