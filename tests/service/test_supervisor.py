"""A node keeps its workers running, and takes them along when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.supervisor import Child
from tests.node import node_up
from tests.waiting import wait_until


def _child(*command: str) -> Child:
    return Child("test", [sys.executable, *command], dict(os.environ))


def test_a_child_that_ends_is_started_again_after_a_wait() -> None:
    child = _child("-c", "raise SystemExit(3)")
    child.wait_seconds = 0.0
    child.start()
    first = child.process
    assert first is not None
    first.wait(30)
    child.tend()
    assert child.process is None
    child.tend()
    assert child.process is not None and child.process.pid != first.pid
    child.ask_to_stop()
    child.stop(time.monotonic() + 20)


def test_a_child_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    child = _child(
        "-c",
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(deaf)!r}).touch()\n"
        "time.sleep(99)\n",
    )
    child.start()
    wait_until(deaf.exists, 20, "child that ignores SIGTERM")
    child.ask_to_stop()
    child.stop(time.monotonic() + 0.2)
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_tethered_process_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'service.tether', 'sleep', '99'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(99)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until(lambda: child.name() == "sleep", 20, "tethered command")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _runs(child), 20, "end of the child")


def test_a_node_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    with node_up(tmp_path) as node:
        workers = [process for process in node.process.descendants() if "celery" in process.cmdline()]
        assert workers
        os.kill(node.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, workers)), 30, "end of the workers")


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
