"""Files, folders and zip files into a node, by the real command; what is in the node is looked up there."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import UID

from service.archive import Archive
from service.eligibility import Eligibility
from service.importing.importer import Importer, Outcome
from service.importing.sources import File
from service.records.database import Records
from service.records.intake import Receiver
from service.settings import Settings
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.processes import running
from tests.service.import_command import COMMAND, ENVIRONMENT, counts_of, run_import, save, stored
from tests.worker.conftest import SmallNode, small_node

DICOMDIR = UID("1.2.840.10008.1.3.10")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    small = small_node(tmp_path / "node-data", minimum_free_bytes=0)
    small.bell.close()
    yield small
    small.records.close()


def _tree(folder: Path) -> list[str]:
    """One of everything; the UIDs that are to be in the node are returned."""
    deep, zipped, other = make_radiograph(), make_radiograph(), make_radiograph(sop_class=DX_FOR_PROCESSING)
    whole = save(deep, folder / "a" / "b" / "c" / "deep").read_bytes()
    (folder / "a" / "again.dcm").write_bytes(whole)
    save(other, folder / "processing.dcm")
    same = {"sop_instance_uid": deep.SOPInstanceUID, "study_uid": deep.StudyInstanceUID}
    save(make_radiograph(bits_stored=10, **same), folder / "z-conflict.dcm")
    (folder / "damaged.dcm").write_bytes(whole[:-100])
    index = make_radiograph()
    index.file_meta.MediaStorageSOPClassUID = DICOMDIR
    index.SOPClassUID = DICOMDIR
    save(index, folder / "DICOMDIR")
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "a" / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(save(zipped, folder.parent / "zipped.dcm"), "../../outside.dcm")
        archive.writestr("readme", "not DICOM")
        archive.writestr("nested.zip", b"PK\x03\x04" + bytes(200))
    (folder / "broken.zip").write_bytes(b"PK\x03\x04 no more")
    return sorted([deep.SOPInstanceUID, deep.SOPInstanceUID, zipped.SOPInstanceUID, other.SOPInstanceUID])


def test_a_tree_with_one_of_everything(node: SmallNode, tmp_path: Path) -> None:
    uids = _tree(tmp_path / "tree")
    before = {path: path.read_bytes() for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    ended = run_import(tmp_path, "--json", "--list", tmp_path / "tree")
    said = json.loads(ended.stdout)
    assert ended.returncode == 1 and ended.stderr == ""
    counts = [said[name.name.lower()] for name in Outcome]
    # taken, duplicate, conflict, unreadable (damaged, loop, broken, nested), DICOMDIR, not DICOM
    assert counts == [3, 1, 1, 4, 1, 2], said
    assert [one["outcome"] for one in said["listed"]].count("unreadable") == 4
    assert len(said["listed"]) == sum(counts) - said["taken"]
    assert list(said["not_to_be_analysed"]) == ["for processing, not for presentation"]
    assert stored(node.records) == uids
    assert not (tmp_path / "outside.dcm").exists() and list(node.archive.incoming.iterdir()) == []
    assert all(path.read_bytes() == content for path, content in before.items())
    again = counts_of(tmp_path, tmp_path / "tree")
    assert (again["taken"], again["duplicate"], again["conflict"]) == (0, 5, 0)
    assert stored(node.records) == uids


def test_a_dry_run_counts_what_the_real_run_then_does(node: SmallNode, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _tree(tree)
    first = make_radiograph()
    same = {"sop_instance_uid": first.SOPInstanceUID, "study_uid": first.StudyInstanceUID}
    header = save(make_radiograph(**same, PatientName="After^Merge"), tmp_path / "header.dcm")
    save(make_radiograph(**same, PatientName="After^Other"), tree / "5-corrected-again.dcm")
    # The first of an image lies in a zip file; it is what the later ones are compared with.
    with zipfile.ZipFile(tree / "1-first.zip", "w") as archive:
        archive.write(save(first, tmp_path / "first.dcm"), "first.dcm")
        archive.write(tree / "processing.dcm", "processing.dcm")
    (tree / "2-corrected.dcm").write_bytes(header.read_bytes())
    save(make_radiograph(**same, bits_stored=10), tree / "3-conflict.dcm")
    with zipfile.ZipFile(tree / "4-again.zip", "w") as archive:
        archive.write(tree / "3-conflict.dcm", "conflict.dcm")
        archive.write(header, "corrected.dcm")
        archive.write(tmp_path / "first.dcm", "first.dcm")
    foreseen = counts_of(tmp_path, "--dry-run", "tree")
    assert stored(node.records) == [] and list(node.archive.root.rglob("*.dcm")) == []
    assert counts_of(tmp_path, "tree") == foreseen
    assert (foreseen["taken"], foreseen["duplicate"], foreseen["conflict"]) == (6, 5, 2)
    assert foreseen["not_to_be_analysed"]["corrected header of an image that is already stored"] == 2


def test_what_a_person_reads(node: SmallNode, tmp_path: Path) -> None:
    _tree(tmp_path / "tree")
    evil = tmp_path / "tree" / "evil\nunreadable: \x1b[31m.dcm"
    evil.write_bytes((tmp_path / "tree" / "damaged.dcm").read_bytes())
    for number in range(20):
        (tmp_path / "tree" / f"d{number}").write_bytes(evil.read_bytes())
    lines = run_import(tmp_path, "--dry-run", "tree").stdout.splitlines()
    assert lines[-7:] == [
        "would take          3",
        "  not to be analysed         1  for processing, not for presentation",
        "duplicate           1",
        "conflict            1",
        "unreadable         25",
        "DICOMDIR            1",
        "not DICOM           2",
    ]
    assert lines[-8] == "unreadable: 5 more (--list)"
    assert len(lines) == 20 + 1 + 8  # the first 20 that are unreadable, and the conflict
    everything = run_import(tmp_path, "--dry-run", "--list", "tree").stdout
    assert len(everything.splitlines()) == 25 + 1 + 1 + 1 + 2 + 7
    assert "unreadable: tree/evil\ufffdunreadable: \ufffd[31m.dcm: the dataset ends early" in everything


def test_exit_codes_and_one_line(node: SmallNode, tmp_path: Path) -> None:
    good = save(make_radiograph(), tmp_path / "good.dcm")
    assert run_import(tmp_path, good).returncode == 0
    missing = run_import(tmp_path, tmp_path / "missing")
    assert (missing.returncode, missing.stderr) == (2, f"litegpt-node: there is no {tmp_path / 'missing'}\n")
    assert run_import(tmp_path, node.archive.root).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_was_stopped_resumes(node: SmallNode, tmp_path: Path, number: int) -> None:
    uids = []
    for at in range(50):
        image = make_radiograph()
        save(image, tmp_path / "many" / f"{at}.dcm")
        uids.append(image.SOPInstanceUID)
    with (
        _slow_after_three(node.records),
        running(
            [*COMMAND, "many"], log=tmp_path / "log", folder=tmp_path, environment=ENVIRONMENT
        ) as process,
    ):
        process.wait_until(lambda: len(stored(node.records)) >= 3, 60, "some images taken")
        status = process.stop(number)
    taken = len(stored(node.records))
    assert 3 <= taken < 50
    if number == signal.SIGINT:
        assert status == 130 and "what was taken is safe" in process.output()
        assert list(node.archive.incoming.iterdir()) == []
    rest = counts_of(tmp_path, "many")
    assert (rest["taken"], rest["duplicate"], rest["unreadable"]) == (50 - taken, taken, 0)
    assert stored(node.records) == sorted(uids)


@contextmanager
def _slow_after_three(records: Records) -> Iterator[None]:
    """From the fourth on, an image's row takes the database over a tenth of a second.

    So a signal comes in the midst of an import, however fast the machine.
    """
    with records.writing() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER slow AFTER INSERT ON instance WHEN (SELECT count(*) FROM instance) > 3 BEGIN"
            " SELECT count(*) FROM (WITH RECURSIVE counted(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1000000) SELECT n FROM counted); END"
        )
    yield
    with records.writing() as session:
        session.connection().exec_driver_sql("DROP TRIGGER slow")


def test_a_person_at_a_terminal_sees_rate_and_time_left(node: SmallNode, tmp_path: Path) -> None:
    for at in range(100):
        save(make_radiograph(), tmp_path / "many" / f"{at}.dcm")
    ours, theirs = pty.openpty()
    environment = {**os.environ, **ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*COMMAND, "many"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    ) as process:
        os.close(theirs)
        seen = b"".join(_read_all(ours)).decode()
        assert process.stdout is not None and "taken             100\n" in process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert "/100" in seen and "files/s" in seen and "0:00:0" in seen and "left" in seen
    assert "100" not in run_import(tmp_path, "many").stderr  # no terminal, no bar


def _read_all(terminal: int) -> Iterator[bytes]:
    while select.select([terminal], [], [], 60)[0]:
        try:
            if not (content := os.read(terminal, 1 << 16)):
                return
        except OSError:  # EIO: the last who held the other end has gone
            return
        yield content


def test_a_file_comes_in_on_both_databases(
    settings: Settings, records: Records, archive: Archive, tmp_path: Path
) -> None:
    path = save(make_radiograph(), tmp_path / "one.dcm")
    importer = Importer(Receiver(records, archive, Eligibility.of(settings)), 0)
    outcomes = [importer.take(File(path)).outcome for _ in range(2)]
    assert outcomes == [Outcome.TAKEN, Outcome.DUPLICATE]
    assert len(stored(records)) == 1
