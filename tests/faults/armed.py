"""Runs a part of the node in which a step may be armed: whoever reaches it kills, with SIGKILL.

    python -m tests.faults.armed FOLDER PART litegpt-node listen

``FOLDER/armed/<step>`` orders one kill: the schedule's number, at which reaching of the step, and the process
ids of whom to kill, or ``self`` for the part with everything that it started. With ``hold`` in their place
whoever reaches the step stays there until the order is removed. The order moves to ``FOLDER/fired`` before it
is carried out.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from tests.faults.steps import BEFORE, STEPS, Step

SELF: Final = "self"
HOLD: Final = "hold"


class Trap:
    """The armed steps of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reached: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def set_at(self, step: Step) -> None:
        """Puts itself around a step's seam.

        Raises:
            AttributeError, ImportError: If the seam is not there.
        """
        module_name, _, path = step.seam.partition(":")
        owner: Any = importlib.import_module(module_name)
        *owners, name = path.split(".")
        for one in owners:
            owner = getattr(owner, one)
        setattr(owner, name, self._around(step, getattr(owner, name)))

    def _around(self, step: Step, seam: Any) -> Any:
        @functools.wraps(seam)
        def passed(*arguments: Any, **named: Any) -> Any:
            if not step.counts(arguments):
                return seam(*arguments, **named)
            if step.moment == BEFORE:
                self._reach(step)
                return seam(*arguments, **named)
            answer = seam(*arguments, **named)
            self._reach(step)
            return answer

        return passed

    def _reach(self, step: Step) -> None:
        order = self._folder / "armed" / step.slug
        try:
            schedule, which, *victims = order.read_text().split()
        except FileNotFoundError:
            return
        with self._lock:
            self._reached[schedule, step.slug] += 1
            if self._reached[schedule, step.slug] < int(which):
                return
            fired = self._folder / "fired" / step.slug
            try:
                order.rename(fired)
            except FileNotFoundError:
                return
        if victims == [HOLD]:
            while fired.exists():
                time.sleep(0.05)
            return
        if victims == [SELF]:
            os.killpg(0, signal.SIGKILL)
        for victim in victims:
            kill_tree(int(victim))


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and to whatever it started."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def main() -> None:
    """Sets the traps of a part, and becomes that part."""
    folder, part, *command = sys.argv[1:]
    trap = Trap(Path(folder))
    for step in STEPS:
        if step.part == part:
            trap.set_at(step)
    sys.argv = command
    if command[0] == "celery":
        from celery.__main__ import main as run
    else:
        from service.cli.main import main as run
    sys.exit(run())


if __name__ == "__main__":
    main()
