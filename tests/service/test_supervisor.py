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

from litegpt.phantoms import phantom_files
from service.supervised import Child
from tests.node import node_up
from tests.peers.dcmtk import dcmsend
from tests.peers.radiographs import study_uids
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


def test_a_child_that_is_killed_takes_what_it_started_along(tmp_path: Path) -> None:
    started = tmp_path / "started"
    child = _child(
        "-c",
        "import pathlib, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pool = subprocess.Popen(['sleep', '99'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(pool.pid))\n"
        "time.sleep(99)\n",
    )
    child.start()
    pool = psutil.Process(int(wait_until(lambda: started.exists() and started.read_text(), 20, "pool")))
    child.stop(time.monotonic())
    wait_until(lambda: not _runs(pool), 20, "end of the pool process")


def test_two_nodes_do_not_share_a_folder(tmp_path: Path) -> None:
    with node_up(tmp_path) as node:
        command = [sys.executable, "-m", "service.cli.main", "up", "--data-dir", str(node.data_dir)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == f"litegpt-node: a node is up in {node.data_dir} already"


def test_the_model_is_loaded_in_the_pool_process_and_never_in_its_parent(tmp_path: Path) -> None:
    with node_up(tmp_path) as node:
        files = phantom_files()[:1]
        assert {one.status for one in dcmsend(node.port, *files)} == {0}
        node.wait_for(study_uids(files), "done")
        parents = [p for p in node.process.descendants() if "analysis" in p.cmdline() and p.children()]
        (parent,) = [p for p in parents if any(_has_torch(child) for child in p.children())]
        assert not _has_torch(parent)
        delivery = [p for p in node.process.descendants() if "delivery" in p.cmdline()]
        assert delivery and not any(map(_has_torch, delivery))


def _has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in mapped.path for mapped in process.memory_maps())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_tethered_process_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "tether = [sys.executable, '-m', 'service.tether', str(os.getpid())]\n"
        "child = subprocess.Popen([*tether, 'sleep', '99'])\n"
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


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tie is Linux's")
def test_a_child_whose_parent_is_gone_before_it_runs_ends_at_once() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait(30)
    late = subprocess.run(
        [sys.executable, "-m", "service.tether", str(parent.pid), "sleep", "99"], timeout=30
    )
    assert late.returncode == 1


def test_a_node_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    with node_up(tmp_path) as node:
        workers = [process for process in node.process.descendants() if "celery" in process.cmdline()]
        assert workers
        os.kill(node.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, workers)), 30, "end of the workers")


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
