"""Several listener processes on one port: all of them receive, and one that is killed is started again."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import func, select

from litegpt.phantoms import phantom_files
from service.records.database import Records
from service.records.migrate import migrate
from service.records.tables import Instance
from service.settings import load_settings
from tests.node import BIN
from tests.peers.dcmtk import dcmsend, echoscu
from tests.ports import free_port
from tests.processes import Process, running

_PROCESSES = 3


@contextmanager
def _listening(folder: Path, port: int) -> Iterator[tuple[Process, Records]]:
    settings = load_settings(data_dir=folder / "node")
    settings.data_dir.mkdir()
    records = Records.open(settings)
    migrate(records.engine)
    environment = {
        "LITEGPT_DATA_DIR": str(settings.data_dir),
        "LITEGPT_DICOM_HOST": "127.0.0.1",
        "LITEGPT_DICOM_PORT": str(port),
        "LITEGPT_LISTENER_PROCESSES": str(_PROCESSES),
        "LITEGPT_MINIMUM_FREE_BYTES": "0",
    }
    command = [BIN / "litegpt-node", "listen"]
    with running(command, log=folder / "listen.log", environment=environment, folder=folder) as process:
        yield process, records
    records.close()


def _at(process: Process, port: int, status: str) -> Counter[int]:
    """How many sockets of that status at the port, by process."""
    everybody = [psutil.Process(process.pid), *process.descendants()]
    return Counter(
        one.pid
        for one in everybody
        if one.is_running()
        for connection in one.net_connections("tcp")
        if connection.status == status and connection.laddr.port == port
    )


def _listening_at(process: Process, port: int) -> Counter[int]:
    return _at(process, port, psutil.CONN_LISTEN)


def _images(folder: Path, number: int) -> list[Path]:
    folder.mkdir()
    files = []
    for image in range(number):
        dataset = pydicom.dcmread(phantom_files()[image % 4])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{image}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def test_all_of_them_receive_and_one_that_is_killed_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with _listening(tmp_path, port) as (process, records):
        process.wait_until(lambda: len(_listening_at(process, port)) == _PROCESSES, 60, "all listening")
        files = _images(tmp_path / "images", 24)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda file: dcmsend(port, file), files))
        assert [sent.status for (sent,) in answers] == [0] * len(files)
        with records.reading() as session:
            assert session.scalar(select(func.count()).select_from(Instance)) == len(files)
        with ExitStack() as open_:
            for _ in range(20):
                open_.enter_context(socket.create_connection(("127.0.0.1", port)))
            process.wait_until(
                lambda: _at(process, port, psutil.CONN_ESTABLISHED).total() == 20, 10, "all accepted"
            )
            assert len(_at(process, port, psutil.CONN_ESTABLISHED)) > 1

        victim = min(_listening_at(process, port))
        psutil.Process(victim).kill()
        process.wait_until(lambda: victim not in _listening_at(process, port), 10, "it gone")
        process.wait_until(
            lambda: len(_listening_at(process, port)) == _PROCESSES, 60, "another in its place"
        )
        assert echoscu(port).succeeded


def test_a_port_that_somebody_has_is_not_shared(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _listening(tmp_path, port) as (process, _):
            assert process.popen.wait(60) == 2
            assert f"port {port} on 127.0.0.1: Address already in use" in process.output()
