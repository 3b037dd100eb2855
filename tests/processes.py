"""Real processes for the length of a ``with`` block, none of them left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil

from tests.waiting import LONGEST_PAUSE_SECONDS, wait_until

Value = TypeVar("Value")

_TAIL_CHARACTERS = 4000
_LEFT_SECONDS = 30
"""A decoder that has just been started sees that nobody is there once it has loaded, on a busy machine."""


class Process:
    """One running program, the leader of a process group of its own, its output in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen = popen
        self.log = log

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """What the program wrote to stdout and stderr so far."""
        return self.log.read_text(errors="replace")

    def wait_until(
        self,
        condition: Callable[[], Value],
        timeout_seconds: float,
        what: str,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> Value:
        """Like :func:`tests.waiting.wait_until`, but fails at once, with the output, if the program ended."""

        def ended_or_true() -> Value:
            answer = condition()
            if not answer and self.popen.poll() is not None:
                raise ChildProcessError(
                    f"{self.popen.args!r} ended with {self.popen.returncode}, no {what}:\n{self._tail()}"
                )
            return answer

        try:
            return wait_until(ended_or_true, timeout_seconds, what, longest_pause_seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.popen.args!r} said:\n{self._tail()}") from None

    def stop(self, with_signal: int = signal.SIGTERM, *, timeout_seconds: float = 20) -> int:
        """Asks the program to end and returns its exit status; it is killed if it has not after a time.

        Raises:
            TimeoutError: If it had to be killed.
            ChildProcessError: If it ended and left something running that it had started.
        """
        started = self.descendants()
        if self.popen.poll() is None:
            self.popen.send_signal(with_signal)
        try:
            status = self.popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"{self.popen.args!r} did not end {timeout_seconds:g} s after signal {with_signal}:\n"
                + self._tail()
            ) from None
        _, left = psutil.wait_procs(started, timeout=_LEFT_SECONDS)
        for process in left:
            process.kill()
        if left:
            raise ChildProcessError(f"{self.popen.args!r} left running: {left}\n{self._tail()}")
        return status

    def descendants(self) -> list[psutil.Process]:
        """Everything that the program started and that still runs, in whatever group."""
        try:
            started: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return started

    def kill(self) -> None:
        """``kill -9`` to the program and to everything that it started."""
        started = self.descendants()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait()

    def _tail(self) -> str:
        return self.output()[-_TAIL_CHARACTERS:]


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: int | None = None,
    stop_signal: int = signal.SIGTERM,
    stop_timeout_seconds: float = 20,
) -> Iterator[Process]:
    """Runs a command until the block ends, then stops it and whatever it started.

    Args:
        command: Program and arguments.
        log: File for stdout and stderr.
        environment: Variables on top of this process's own.
        folder: Working directory.
        user: Numeric user (and group) to run as.
        stop_signal: What asks the program to end.
        stop_timeout_seconds: How long it may take to.
    """
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    process = Process(popen, log)
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    process.stop(stop_signal, timeout_seconds=stop_timeout_seconds)
