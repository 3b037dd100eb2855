"""The kernel's own record of what the listener did before it answered Success (DESIGN decision 2)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from litegpt.phantoms import phantom_files
from service.settings import PREFIX
from tests.node import BIN, QUICK
from tests.peers.dcmtk import dcmsend
from tests.peers.radiographs import as_new_studies
from tests.ports import free_port, listens
from tests.presence import program
from tests.processes import running

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"


def test_file_then_name_then_folder_then_records_then_reply(tmp_path: Path) -> None:
    (image,) = as_new_studies(phantom_files()[:1], tmp_path / "images")
    with _traced_listener(tmp_path) as (port, calls):
        (reply,) = dcmsend(port, image)
        assert reply.status == 0
    trace = calls.read_text()
    order = [
        ("the file", rf"(fsync|fdatasync)\(\d+<{tmp_path}/data/incoming/[^>]+>"),
        ("its name", rf'rename\w*\(.*"{tmp_path}/data/incoming/[^"]+".*"{tmp_path}/data/images/[^"]+\.dcm"'),
        ("its folder", rf"fsync\(\d+<{tmp_path}/data/images/../[0-9.]+>"),
        ("the records", rf"(fsync|fdatasync)\(\d+<{tmp_path}/data/[^>]+-wal>"),
        ("the reply", r"sendto\(\d+<[^>]*>, \"\\4\\0"),
    ]
    at = 0
    for what, pattern in order:
        found = re.compile(pattern).search(trace, at)
        assert found, f"no {what} in its turn:\n{trace}"
        at = found.end()


@contextmanager
def _traced_listener(folder: Path) -> Iterator[tuple[int, Path]]:
    """A listener under strace: its port, and the file of its system calls, whole when the block has ended."""
    strace, calls, port = program("strace", package="strace"), folder / "calls.txt", free_port()
    _require_ptrace(strace)
    settings = {**QUICK, "data_dir": folder / "data", "dicom_port": port, "destinations": "PACS@127.0.0.1:1"}
    environment = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
    subprocess.run([BIN / "litegpt-node", "migrate"], env={**os.environ, **environment}, check=True)
    command = [strace, "-f", "-y", "-s", "8", "-e", CALLS, "-o", calls, BIN / "litegpt-node", "listen"]
    with running(command, log=folder / "listener.log", environment=environment, folder=folder) as process:
        process.wait_until(lambda: listens(port), 60, "listener")
        yield port, calls
        # strace hands no signal on to what it traces.
        (listener,) = psutil.Process(process.pid).children()
        listener.terminate()
        process.wait_until(lambda: process.popen.poll() is not None, 30, "end of the listener")


def _require_ptrace(strace: str) -> None:
    tried = subprocess.run([strace, "-e", "trace=none", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
