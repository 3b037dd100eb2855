"""A disk that becomes full in mid-file, or read-only: a status, nothing half, and on it goes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from sqlalchemy import text

from litegpt.phantoms import phantom_files
from service.records.database import Records
from service.settings import Settings, load_settings
from service.web.readiness import Readiness
from service.wire.association import rejection_of
from service.wire.listener import Listener
from tests.faults.disk import Disk, small_disk
from tests.faults.modality import Answered, at_rest
from tests.faults.promises import broken_promises
from tests.faults.rig import Rig, rig_up
from tests.images import DX
from tests.node import BIN
from tests.peers.dcmtk import dcmsend, echoscu
from tests.peers.radiographs import as_new_studies
from tests.processes import running
from tests.scrape import ask_json, scrape, web_url
from tests.service.conftest import listening_node

OUT_OF_RESOURCES = 0xA700

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "node") as disk:
        yield disk


@pytest.fixture
def listening(disk: Disk, process_settings: None) -> Iterator[tuple[Listener, Records, Settings]]:
    """A node whose records are on the same disk as its archive."""
    settings = load_settings(data_dir=disk.folder, dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=0)
    with listening_node(settings) as (listener, records):
        yield listener, records, settings


@pytest.mark.parametrize("full_at", ["the beginning", "the middle", "the records"])
def test_a_disk_that_is_full_at(
    full_at: str, listening: tuple[Listener, Records, Settings], disk: Disk, tmp_path: Path
) -> None:
    listener, records, settings = listening
    before, during = as_new_studies(phantom_files()[:2], tmp_path / "images")
    size = during.stat().st_size
    # A folder and the file itself, and then no page of the records' log.
    room = {"the beginning": 0, "the middle": size // 2, "the records": size + 8192}[full_at]
    assert _statuses(listener.port, before) == {0}
    with disk.full_but_for(room):
        for _ in range(2):
            assert _statuses(listener.port, during) == {OUT_OF_RESOURCES}
        assert list((disk.folder / "incoming").iterdir()) == []
        if full_at == "the beginning":
            assert "archive" in _complains(Readiness(settings))
        assert echoscu(listener.port).succeeded
    assert _statuses(listener.port, during) == {0}
    assert _statuses(listener.port, during) == {0}
    assert list((disk.folder / "incoming").iterdir()) == []
    with records.reading() as session:
        assert session.execute(text("SELECT count(*), count(DISTINCT path) FROM instance")).one() == (2, 2)
    images = list((disk.folder / "images").rglob("*.dcm"))
    assert sorted(path.stat().st_size for path in images) == sorted(
        settings.data_dir.joinpath(path).stat().st_size for path in _paths(records)
    )


def _paths(records: Records) -> list[str]:
    with records.reading() as session:
        return list(session.execute(text("SELECT path FROM instance")).scalars())


def _complains(readiness: Readiness) -> set[str]:
    """Of the two that this node has."""
    return {line.name for line in readiness.ask() if line.complaint and line.name in {"archive", "database"}}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[tuple[Rig, Disk]]:
    with (
        small_disk(tmp_path / "rig" / "node" / "data") as disk,
        rig_up(tmp_path / "rig", random.Random(1), settings={"minimum_free_bytes": "0"}) as rig,
    ):
        yield rig, disk


def test_an_archive_that_becomes_read_only(rig: tuple[Rig, Disk], tmp_path: Path) -> None:
    """Images are refused at the door, what was read waits to be written, and all of it comes to its end."""
    node, disk = rig
    before, during = as_new_studies(phantom_files()[:2], tmp_path / "images")
    with ExitStack() as stack:
        web = stack.enter_context(
            running(
                [BIN / "litegpt-node", "web"],
                log=tmp_path / "web.log",
                environment={**node.environment, "LITEGPT_WEB_PORT": "0"},
            )
        )
        url = web_url(node.data_dir)
        assert _statuses(node.port, before) == {0}
        with disk.read_only():
            assert _rejection(node.port) == (2, 3, 2)
            assert echoscu(node.port).succeeded
            web.wait_until(lambda: _is_put_off(node), 180, "analysis put off")
            status, says = ask_json(f"{url}/health/ready")
            assert status == 503 and "Read-only file system" in says["archive"]["says"]
        web.wait_until(lambda: _statuses(node.port, during) == {0}, 30, "image taken")
        web.wait_until(lambda: at_rest(node.database, 2), 120, "node at rest")
        web.wait_until(lambda: ask_json(f"{url}/health/ready")[1]["archive"]["ok"], 30, "archive in order")
        assert scrape(url)("litegpt_studies", state="complete") == 2
    answered = [Answered.of(file) for file in (before, during)]
    assert broken_promises(node.database, node.data_dir, node.pacs, answered) == []
    assert node.store_requests() == 2


def _rejection(port: int) -> tuple[int, int, int]:
    """Result, source and diagnostic of the A-ASSOCIATE-RJ that a modality gets."""
    modality = AE(ae_title="MODALITY")
    modality.add_requested_context(DX)
    association = modality.associate("127.0.0.1", port, ae_title="LITEGPT")
    answer: Any = rejection_of(association)
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def _is_put_off(rig: Rig) -> bool:
    """Whether the study was read, and its results could not be written: that is no failure of its own."""
    return bool(
        rig.ask("SELECT count(*) FROM analysis WHERE state = 'queued' AND attempt > 0 AND failures = 0")
    )


def _statuses(port: int, *files: Path) -> set[int | None]:
    # A listener in this process has temporary files go onto its own disk, which is full.
    return {sent.status for sent in dcmsend(port, *files, reports=files[0].parent)}
