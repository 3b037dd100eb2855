"""Under a umask that takes nothing away, whatever a node writes is still for its own user alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from litegpt.phantoms import phantom_files
from service.checks import line
from service.own_files import require_closed
from tests.images import with_other_pixels
from tests.node import BIN, node_up
from tests.peers.dcmtk import dcmsend, storescp
from tests.processes import running


@contextmanager
def _open_umask() -> Iterator[None]:
    """For what is started within it."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _open_to_others(folder: Path) -> dict[str, str]:
    """What below a folder, and the folder itself, is not 0700 or 0600."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            found[str(path.relative_to(folder.parent))] = oct(mode)
    return found


def _umask_of(pid: int) -> str:
    return next(
        text.split()[1]
        for text in Path(f"/proc/{pid}/status").read_text().splitlines()
        if text.startswith("Umask:")
    )


def test_nothing_that_a_node_writes_is_for_others(tmp_path: Path) -> None:
    image = pydicom.dcmread(phantom_files()[0])
    other = with_other_pixels(image)
    files = [tmp_path / "image.dcm", tmp_path / "other.dcm"]
    for dataset, file in zip((image, other), files, strict=True):
        dataset.save_as(file, enforce_file_format=True)
    uid, data = str(image.StudyInstanceUID), tmp_path / "node" / "data"
    written = tmp_path / "written"
    written.mkdir()
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs, _open_umask():
        with node_up(tmp_path / "node", destinations=pacs.destination, web_port="0") as node:
            dcmsend(node.port, files[0])
            node.wait_for({uid}, "delivered")
            dcmsend(node.port, files[1])
            for arguments in (
                ("import", str(phantom_files()[1])),
                ("backup", str(written), "--with-images"),
                ("export", "--since", "2000-01-01", "-o", str(written / "findings.csv"), "--pseudonymise"),
            ):
                command = [BIN / "litegpt-node", *arguments, "--data-dir", data]
                done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
                assert done.returncode == 0, done.stderr
            processes = [node.process.pid, *(one.pid for one in node.process.descendants())]
            assert {_umask_of(pid) for pid in processes} == {"0077"}
            names = {path.name.split(".")[0] for path in data.rglob("*")}
            assert {"node", "images", "results", "incoming", "metrics", "broker", "pseudonyms"} <= names
            assert (data / "node.sqlite-wal").is_file() and list((data / "broker").rglob("*.msg"))
            assert _open_to_others(data) == {}
        assert _open_to_others(data) == {}
    assert {str(path.suffix) for path in written.iterdir()} == {".tar", ".csv"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in written.iterdir())


def test_so_does_a_worker_that_is_started_alone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "-A",
        "worker.app",
        "worker",
        "--queues",
        "delivery",
    ]
    environment = {"LITEGPT_DATA_DIR": str(tmp_path / "data")}
    with (
        _open_umask(),
        running(
            [*command, "--pool", "prefork", "--concurrency", "1"],
            log=tmp_path / "log",
            environment=environment,
            folder=tmp_path,
        ) as process,
    ):

        def processes() -> list[int]:
            children = [one.pid for one in process.descendants()]
            return [process.pid, *children] if children else []

        pids = process.wait_until(processes, 60, "worker with its pool")
        assert {_umask_of(pid) for pid in pids} == {"0077"}
        assert _open_to_others(tmp_path / "data") == {}


@pytest.mark.parametrize(
    ("above", "folder", "complains"),
    [
        (0o700, 0o700, False),
        (0o755, 0o700, False),
        (0o700, 0o755, False),
        (0o755, 0o750, True),
        (0o711, 0o701, True),
    ],
)
def test_check_complains_of_a_folder_that_others_come_into(above: int, folder: int, complains: bool) -> None:
    # Not in pytest's folder, which others cannot come into.
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        Path(name).chmod(above)
        data.chmod(folder)
        said = line("data folder", lambda: require_closed(data))
    assert (said.complaint is not None) is complains
    if complains:
        assert said.complaint == f"other users of this machine can read {data}: chmod 700 {data}"
