"""Work on bytes from outside, in a process beside this one: what crashes, hangs or swells there ends there.

Decoders of compressed pixels are C, and some damage makes them abort, loop, or ask for all memory. A
listener, or a worker with a model on its GPU, must outlive that. This contains crashes; it is no sandbox for
foreign code that has taken the decoder over. Torch-free.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from litegpt.errors import LiteGPTError

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Broken(LiteGPTError):
    """The work ended its process, or did not end in time; its words are one line."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one piece of work may use.

    Attributes:
        seconds: Until its answer.
        memory_bytes: On top of what the process has when it begins.
    """

    seconds: float = 60.0
    memory_bytes: int = 4 << 30


class Isolation:
    """Processes that work for this one, started when they are needed; any thread may call.

    They end with this process, whatever ends it.
    """

    def __init__(
        self,
        processes: int = 1,
        limits: Limits = Limits(),
        initializer: Callable[[], object] | None = None,
    ) -> None:
        """Args:
        processes: How many may work at once; who comes then waits. 0: the work is done in this process,
            without limits.
        limits: Of each piece of work.
        initializer: What each process does first; nobody is told what comes of it.
        """
        self._limits, self._initializer = limits, initializer
        self._here = processes == 0
        self._free = threading.Semaphore(processes)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def call(
        self,
        function: Callable[Parameters, Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Answer:
        """Calls a function of a module, with arguments that can be pickled.

        Raises:
            Broken: If it crashed, or went beyond its limits, twice.
            Exception: Whatever the function raises.
        """
        if self._here:
            return function(*arguments, **named)
        job = (function, arguments, named)
        with self._free:
            try:
                answered, answer = self._once(job)
            except Broken:
                # It may have been ended by a system short of memory; what is to blame ends another one, too.
                answered, answer = self._once(job)
        if answered:
            return answer  # type: ignore[no-any-return]
        raise answer

    def _once(self, job: object) -> tuple[bool, Any]:
        worker, is_new = self._take()
        try:
            if is_new and self._initializer is not None:
                worker.work((self._initializer, (), {}), self._limits.seconds)
            outcome = worker.work(job, self._limits.seconds)
        except BaseException:
            worker.kill()
            raise
        with self._lock:
            self._idle.append(worker)
        return outcome

    def close(self) -> None:
        """Ends the processes that have nothing to do."""
        with self._lock:
            while self._idle:
                self._idle.pop().kill()

    def _take(self) -> tuple[_Worker, bool]:
        """A process that is free, and whether it was started for this."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), False
        return _Worker(self._limits), True


class _Worker:
    """The parent's side of one process."""

    def __init__(self, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(limits.memory_bytes)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is our affair
            )
        self._connection = Connection(ours.detach())
        self.kill = weakref.finalize(self, _end, self._connection, self._process)
        """Ends the process; called also when nobody can give it work any more."""

    def work(self, job: object, seconds: float) -> tuple[bool, Any]:
        """Hands a job over and waits for what comes of it: whether it is an answer, and that or the error."""
        try:
            self._connection.send(job)
            if not self._connection.poll(seconds):
                raise Broken(f"took longer than {seconds:g} s")
            outcome: tuple[bool, Any] = self._connection.recv()
            return outcome
        except (EOFError, ConnectionError) as error:
            raise Broken(f"ended its process: {self._end()}") from error

    def _end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _end(connection: Connection, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.kill()
    process.wait()


def _serve(connection: Connection, memory_bytes: int) -> None:
    """The child's side: works until nobody is there any more."""
    _limit_memory(memory_bytes)
    warnings.simplefilter("ignore")  # pydicom's quote what a header says
    while True:
        try:
            function, arguments, named = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            outcome: tuple[bool, Any] = (True, function(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - this process's edge: whoever asked is told
            outcome = (False, _picklable(error))
        with suppress(ConnectionError):
            connection.send(outcome)
        del outcome


def _limit_memory(more_bytes: int) -> None:
    """Limits the address space to what it is now and some more; imports of the work itself count as more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    present = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + more_bytes, present + more_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _picklable(error: Exception) -> Exception:
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - the class takes other arguments than it keeps
        return RuntimeError(type(error).__name__)  # its words may quote a header
    return error


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
