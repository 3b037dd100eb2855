"""A PostgreSQL that never answers, or a lock that somebody forgot: a C-STORE is answered all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from litegpt.phantoms import phantom_files
from service.records import impatience, waits
from service.records.database import Records
from service.settings import Settings, load_settings
from service.web.readiness import LIMIT_SECONDS, Readiness
from service.wire.listener import Listener
from tests.peers.dcmtk import dcmsend
from tests.peers.radiographs import as_new_studies, study_uids
from tests.processes import Process, running
from tests.service.conftest import listening_node
from tests.services.postgres import private_server
from tests.waiting import wait_until

OUT_OF_RESOURCES = 0xA700
SHORT_SECONDS = 1
"""In the place of the node's own limits, so that the test need not wait for those."""

ANSWERED_SECONDS = 8.0
"""A statement, and a new connection after it, with much room."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    with (
        private_server() as own,
        running(
            own.command,
            log=tmp_path_factory.mktemp("server") / "postgres.log",
            folder=own.folder,
            user=own.user,
            stop_signal=signal.SIGINT,
        ) as process,
    ):
        process.wait_until(own.answers, 30, "PostgreSQL server")
        yield own.url.render_as_string(hide_password=False), process


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatience.ImpatientConnection, "ANSWER_SECONDS", 2 * SHORT_SECONDS)
    monkeypatch.setattr(waits, "CALLERS_LOCK_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(waits, "CONNECT_TIMEOUT_SECONDS", 2 * SHORT_SECONDS)


@pytest.fixture
def listening(
    tmp_path: Path, server: tuple[str, Process], short_limits: None, process_settings: None
) -> Iterator[tuple[Listener, Records, Settings]]:
    settings = load_settings(
        data_dir=tmp_path / "node",
        database_url=server[0],
        dicom_host="127.0.0.1",
        dicom_port=0,
        minimum_free_bytes=0,
    )
    with listening_node(settings) as (listener, records):
        yield listener, records, settings


def test_a_server_that_never_answers(
    listening: tuple[Listener, Records, Settings], server: tuple[str, Process], tmp_path: Path
) -> None:
    listener, records, settings = listening
    before, during = (as_new_studies(phantom_files()[:2], tmp_path / name) for name in ("before", "during"))
    assert _statuses(listener, before) == {0}
    readiness = Readiness(settings)
    with _stopped(server[1]):
        begun = time.monotonic()
        assert _statuses(listener, during[:1]) == {OUT_OF_RESOURCES}
        assert time.monotonic() - begun < ANSWERED_SECONDS
        begun = time.monotonic()
        database = next(line for line in readiness.ask() if line.name == "database")
        assert database.complaint and time.monotonic() - begun < LIMIT_SECONDS + 2
    wait_until(lambda: _statuses(listener, during) == {0}, 30, "the same objects taken")
    wait_until(lambda: _is_well(readiness), 30, "the database in order")
    assert _recorded(records) == sorted(study_uids([*before, *during]))


def test_a_lock_that_somebody_forgot(listening: tuple[Listener, Records, Settings], tmp_path: Path) -> None:
    listener, records, _ = listening
    files = as_new_studies(phantom_files()[:1], tmp_path / "images")
    other = as_new_studies(phantom_files()[1:2], tmp_path / "other")
    with records.engine.connect() as forgotten:
        forgotten.execute(text("LOCK TABLE instance IN SHARE ROW EXCLUSIVE MODE"))
        begun = time.monotonic()
        assert _statuses(listener, files) == {OUT_OF_RESOURCES}
        assert time.monotonic() - begun < ANSWERED_SECONDS
        forgotten.rollback()
    assert _statuses(listener, [*files, *other]) == {0}
    assert set(_recorded(records)) >= study_uids([*files, *other])


def _statuses(listener: Listener, files: list[Path]) -> set[int | None]:
    return {sent.status for sent in dcmsend(listener.port, *files, options=["-td", "60"])}


def _is_well(readiness: Readiness) -> bool:
    return any(line.name == "database" and line.complaint is None for line in readiness.ask())


def _recorded(records: Records) -> list[str]:
    with records.reading() as session:
        rows = session.execute(
            text("SELECT study_instance_uid FROM study JOIN instance ON study_id = study.id")
        )
        return sorted(row[0] for row in rows)


@contextmanager
def _stopped(server: Process) -> Iterator[None]:
    """All processes of a server stand still: the kernel goes on to take what is sent to them."""
    processes = [psutil.Process(server.pid), *server.descendants()]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
