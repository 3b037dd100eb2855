"""Files, folders and zip files into a node, by the real command; what is in the node is looked up there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import UID
from sqlalchemy import func, select

from service.archive import Archive
from service.eligibility import Eligibility
from service.importing.importer import Importer, Outcome
from service.importing.sources import File
from service.records.database import Records
from service.records.intake import Receiver
from service.records.tables import Instance
from service.settings import Settings
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.processes import running
from tests.worker.conftest import SmallNode, small_node

COMMAND = [sys.executable, "-m", "service.cli.main", "import"]
DICOMDIR = UID("1.2.840.10008.1.3.10")


@pytest.fixture
def node(tmp_path: Path) -> SmallNode:
    small = small_node(tmp_path / "node-data", minimum_free_bytes=0)
    small.bell.close()
    return small


def _import(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "LITEGPT_MINIMUM_FREE_BYTES": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _stored(records: Records) -> list[str]:
    with records.reading() as session:
        return sorted(session.scalars(select(Instance.sop_instance_uid)))


def _count(records: Records) -> int:
    with records.reading() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def _tree(folder: Path) -> list[str]:
    """One of everything; the UIDs that are to be in the node are returned."""
    deep, zipped, other = make_radiograph(), make_radiograph(), make_radiograph(sop_class=DX_FOR_PROCESSING)
    whole = _save(deep, folder / "a" / "b" / "c" / "deep").read_bytes()
    (folder / "a" / "again.dcm").write_bytes(whole)
    _save(other, folder / "processing.dcm")
    same = {"sop_instance_uid": deep.SOPInstanceUID, "study_uid": deep.StudyInstanceUID}
    _save(make_radiograph(bits_stored=10, **same), folder / "z-conflict.dcm")
    (folder / "damaged.dcm").write_bytes(whole[:-100])
    index = make_radiograph()
    index.file_meta.MediaStorageSOPClassUID = DICOMDIR
    index.SOPClassUID = DICOMDIR
    _save(index, folder / "DICOMDIR")
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "a" / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(_save(zipped, folder.parent / "zipped.dcm"), "../../outside.dcm")
        archive.writestr("readme", "not DICOM")
        archive.writestr("nested.zip", b"PK\x03\x04" + bytes(200))
    (folder / "broken.zip").write_bytes(b"PK\x03\x04 no more")
    return sorted([deep.SOPInstanceUID, deep.SOPInstanceUID, zipped.SOPInstanceUID, other.SOPInstanceUID])


def test_a_tree_with_one_of_everything(node: SmallNode, tmp_path: Path) -> None:
    uids = _tree(tmp_path / "tree")
    before = {path: path.read_bytes() for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    ended = _import(tmp_path, "--json", "--list", tmp_path / "tree")
    said = json.loads(ended.stdout)
    assert ended.returncode == 1, ended.stderr
    counts = [said[name.name.lower()] for name in Outcome]
    # taken, duplicate, conflict, unreadable (damaged, loop, broken, nested), index, not DICOM
    assert counts == [3, 1, 1, 4, 1, 2], said
    assert list(said["not_to_be_analysed"]) == ["for processing, not for presentation"]
    assert _stored(node.records) == uids
    assert not (tmp_path / "outside.dcm").exists() and list(node.archive.incoming.iterdir()) == []
    assert all(path.read_bytes() == content for path, content in before.items())
    again = json.loads(_import(tmp_path, "--json", tmp_path / "tree").stdout)
    assert (again["taken"], again["duplicate"], again["conflict"]) == (0, 5, 0)
    assert _stored(node.records) == uids


def test_a_dry_run_writes_nothing(node: SmallNode, tmp_path: Path) -> None:
    _tree(tmp_path / "tree")
    ended = _import(tmp_path, "--dry-run", tmp_path / "tree")
    assert "would take" in ended.stdout
    assert _count(node.records) == 0
    assert list(node.archive.root.rglob("*.dcm")) == []


def test_exit_codes_and_one_line(node: SmallNode, tmp_path: Path) -> None:
    good = _save(make_radiograph(), tmp_path / "good.dcm")
    assert _import(tmp_path, good).returncode == 0
    missing = _import(tmp_path, tmp_path / "missing")
    assert (missing.returncode, missing.stderr) == (2, f"litegpt-node: there is no {tmp_path / 'missing'}\n")
    assert _import(tmp_path, node.archive.root).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_was_stopped_resumes(node: SmallNode, tmp_path: Path, number: int) -> None:
    uids = []
    for at in range(150):
        image = make_radiograph()
        _save(image, tmp_path / "many" / f"{at}.dcm")
        uids.append(image.SOPInstanceUID)
    environment = {"LITEGPT_MINIMUM_FREE_BYTES": "0"}
    enough: Callable[[], bool] = lambda: _count(node.records) >= 3  # noqa: E731
    with running(
        [*COMMAND, "many"], log=tmp_path / "log", folder=tmp_path, environment=environment
    ) as process:
        process.wait_until(enough, 60, "some images taken")
        status = process.stop(number)
    assert 3 <= _count(node.records) < 150
    if number == signal.SIGINT:
        assert status == 130 and "what was taken is safe" in process.output()
    assert _import(tmp_path, "many").returncode == 0
    assert _stored(node.records) == sorted(uids)


def test_a_file_comes_in_on_both_databases(
    settings: Settings, records: Records, archive: Archive, tmp_path: Path
) -> None:
    path = _save(make_radiograph(), tmp_path / "one.dcm")
    importer = Importer(Receiver(records, archive, Eligibility.of(settings)), 0)
    outcomes = [importer.take(File(path)).outcome for _ in range(2)]
    assert outcomes == [Outcome.TAKEN, Outcome.DUPLICATE]
    assert _count(records) == 1
