"""A restored node goes on: what was due is delivered once, and what was queued is analysed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pydicom
import pytest

from litegpt.phantoms import phantom_files
from service import queue
from service.archive import Archive
from service.backup.reading import Backup
from service.backup.restoring import compare, restore
from service.backup.writing import write_backup
from service.records.database import Records
from service.settings import load_settings
from tests.peers.dcmtk import Storescp, storescp
from tests.peers.radiographs import as_new_studies
from tests.worker.conftest import SmallNode, small_node
from worker.analysis import Analyst
from worker.delivery import Courier


def quiet(*_: object) -> None:
    """Progress that nobody looks at."""


def _analyse(node: SmallNode) -> None:
    Analyst(node.settings, node.records, node.archive, node.bell).drain()


def _deliver(node: SmallNode) -> None:
    Courier(node.settings, node.records, node.archive).drain()


def _backed_up(folder: Path, pacs: Storescp) -> tuple[Path, dict[str, str]]:
    """A node with a study delivered, one analysed and due, one queued; gone once it has been backed up."""
    node = small_node(folder / "former", destinations=[pacs.destination], minimum_free_bytes=0)
    sent, due, queued = (pydicom.dcmread(path) for path in as_new_studies(phantom_files()[:3], folder / "in"))
    node.take(sent)
    _analyse(node)
    _deliver(node)
    node.take(due)
    _analyse(node)
    node.take(queued)
    studies = {"sent": sent, "due": due, "queued": queued}
    uids = {name: str(dataset.StudyInstanceUID) for name, dataset in studies.items()}
    outcomes = {name: node.show(uid).outcome for name, uid in uids.items()}
    assert outcomes == {"sent": "delivered", "due": "delivering", "queued": "queued"}
    path = folder / "backup.tar"
    write_backup(node.settings, node.records, path, with_files=True, on_progress=quiet)
    node.records.close()
    node.bell.close()
    (folder / "former").rename(folder / "gone")
    return path, uids


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_due_is_delivered_once_and_what_was_queued_is_analysed(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        path, uids = _backed_up(tmp_path, pacs)
        url = request.getfixturevalue("postgres_url") if database == "postgresql" else None
        to = load_settings(
            data_dir=tmp_path / "node",
            database_url=url,
            destinations=[pacs.destination],
            minimum_free_bytes=0,
            quiet_seconds=0,
            keep_association_seconds=0,
        )
        records, archive, backup = Records.open(to), Archive(to.data_dir), Backup.open(path)
        backup.verify(quiet)
        restore(backup, records, archive, quiet)
        assert list(compare(backup, archive, quiet)) == []
        queue.prepare_broker(to)
        node = SmallNode(to, records, archive, queue.Bell(to))
        _deliver(node)
        _analyse(node)
        _deliver(node)
        # And a new one comes after them.
        (new,) = as_new_studies(phantom_files()[3:4], tmp_path / "new")
        dataset = pydicom.dcmread(new)
        node.take(dataset)
        _analyse(node)
        _deliver(node)
        expected = {*uids.values(), str(dataset.StudyInstanceUID)}
        assert {node.show(uid).outcome for uid in expected} == {"delivered"}
        assert Counter(str(report.StudyInstanceUID) for report in pacs.datasets()) == Counter(expected)
        assert pacs.store_requests() == len(expected)
        records.close()
        node.bell.close()
