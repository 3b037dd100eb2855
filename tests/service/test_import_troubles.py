"""An import when something goes wrong: the disk, the original, the tree. Nothing is half taken."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from service.archive import Archive
from service.errors import OutOfResources
from service.importing.copying import dataset_digest
from service.importing.sources import find
from service.received import ReceivedObject, examine
from service.records.tables import Instance
from tests.images import make_radiograph
from tests.service.import_command import outcomes, run_import, save, stored, take_all
from tests.worker.conftest import SmallNode, small_node

ROWS = 700
"""Images of about 1 MB, which are read in more than one piece."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    small = small_node(tmp_path / "node-data", minimum_free_bytes=0)
    small.bell.close()
    yield small
    small.records.close()


def _images(folder: Path, number: int, rows: int = ROWS) -> list[Path]:
    return [save(make_radiograph(rows=rows, columns=ROWS), folder / f"{at}.dcm") for at in range(number)]


def _nothing_is_half_taken(node: SmallNode, images: list[Path]) -> int:
    """Every file of the archive is one of the originals, every row has its file; the number of rows."""
    originals = {path.read_bytes() for path in images}
    assert list(node.archive.incoming.iterdir()) == []
    assert {path.read_bytes() for path in (node.archive.root / "images").rglob("*.dcm")} <= originals
    with node.records.reading() as session:
        paths = session.scalars(select(Instance.path)).all()
    assert all(node.archive.absolute(path).is_file() for path in paths)
    return len(paths)


def test_a_disk_that_is_nearly_full(node: SmallNode, tmp_path: Path) -> None:
    _images(tmp_path / "images", 1)
    ended = run_import(tmp_path, "images", LITEGPT_MINIMUM_FREE_BYTES=str(1 << 60))
    root = node.archive.root
    assert ended.stderr == f"litegpt-node: the disk of {root} is nearly full (minimum_free_bytes)\n"
    assert ended.returncode == 1 and "what was taken is safe" in ended.stdout
    assert stored(node.records) == []


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    images = _images(tmp_path / "images", 10)
    with _small_disk(tmp_path / "node-data", "6m") as enlarge:
        node = small_node(tmp_path / "node-data", minimum_free_bytes=0)
        node.bell.close()
        ended = run_import(tmp_path, "images")
        incoming = node.archive.incoming
        assert ended.stderr == f"litegpt-node: {incoming}: {os.strerror(errno.ENOSPC)}\n"
        assert ended.returncode == 1
        assert 1 <= _nothing_is_half_taken(node, images) < 10
        enlarge("40m")
        assert run_import(tmp_path, "images").returncode == 0
        assert _nothing_is_half_taken(node, images) == 10
        node.records.close()


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Callable[[str], object]]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    made = subprocess.run([*mount, f"size={size}", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield lambda size: subprocess.run([*mount, f"remount,size={size}", folder], check=True)
    finally:
        # Lazily: where a test has failed, the records may still be open there.
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_archive_that_takes_no_large_files(node: SmallNode, tmp_path: Path) -> None:
    """The same for whoever may not mount: a limit of the process makes writing fail half-way."""
    small, large = _images(tmp_path / "a", 1, rows=16), _images(tmp_path / "b", 1)
    limit = 600_000
    ended = run_import(
        tmp_path, "a", "b", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert ended.stderr == f"litegpt-node: {node.archive.incoming}: {os.strerror(errno.EFBIG)}\n"
    assert ended.returncode == 1
    assert _nothing_is_half_taken(node, [*small, *large]) == 1


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes(100))


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(100))


@pytest.mark.parametrize("change", [_cut, _overwrite, _append])
def test_a_file_that_changes_while_it_is_read(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    (image,) = _images(tmp_path / "image", 1)
    whole = image.read_bytes()

    def change_now(_archive: Archive) -> int:  # asked for when the beginning has been read
        change(image)
        return 1 << 60

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "free_bytes", change_now)
        (taken,) = take_all(node, image)
    assert (taken.outcome, taken.reason) == ("unreadable", "it changed while it was read")
    image.write_bytes(whole)
    assert _nothing_is_half_taken(node, [image]) == 0
    assert outcomes(take_all(node, image)) == ["taken"]


def test_a_file_that_changes_between_two_readings(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes under a known UID are digested, and then copied: both times it must be the same file."""
    first = make_radiograph()
    save(first, tmp_path / "0.dcm")
    first.PatientName = "After^Merge"
    image = save(first, tmp_path / "1.dcm")

    def digest_and_change(chunks: Iterable[bytes], dataset_offset: int) -> str:
        found = dataset_digest(chunks, dataset_offset)
        save(make_radiograph(), image)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("service.importing.importer.dataset_digest", digest_and_change)
        taken = take_all(node, tmp_path / "0.dcm", image)
    assert outcomes(taken) == ["taken", "unreadable"]
    assert taken[1].reason == "it changed while it was read"


def test_a_file_that_is_deleted_while_it_is_read_is_taken_whole(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = _images(tmp_path / "image", 1)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(image.read_bytes())

    def delete_now(_archive: Archive) -> int:
        image.unlink()
        return 1 << 60

    monkeypatch.setattr(Archive, "free_bytes", delete_now)
    assert outcomes(take_all(node, image)) == ["taken"]
    assert _nothing_is_half_taken(node, [copy]) == 1


def test_a_share_that_is_away_ends_the_import(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_archive: Archive) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Archive, "free_bytes", away)
    with pytest.raises(OutOfResources, match=os.strerror(errno.ESTALE)):
        take_all(node, *_images(tmp_path / "images", 1, rows=8))


def test_the_nodes_own_folder_is_left_out(node: SmallNode, tmp_path: Path) -> None:
    (image,) = _images(tmp_path / "images", 1, rows=8)
    take_all(node, image)
    assert outcomes(take_all(node, tmp_path)) == ["duplicate"]


def test_files_and_folders_that_go_away_before_they_are_read(node: SmallNode, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    _images(folder / "a", 2, rows=8)
    _images(folder / "b", 2, rows=8)
    walk = find([folder], node.archive.root)
    next(walk)
    for path in (folder / "a" / "1.dcm", folder / "b" / "0.dcm", folder / "b" / "1.dcm"):
        path.unlink()
    (folder / "b").rmdir()
    gone = [one for found in walk for one in take_all(node, Path(found.name))]
    assert [(Path(one.name).name, one.reason) for one in gone] == [
        ("1.dcm", "it is not there any more"),
        ("b", "it is not there any more"),
    ]


def test_links_that_loop_or_lead_nowhere(node: SmallNode, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _images(tree / "real", 1, rows=8)
    (tree / "self").symlink_to(tree / "self")
    (tree / "a").symlink_to(tree / "b")
    (tree / "b").symlink_to(tree / "a")
    (tree / "real" / "up").symlink_to(tree)
    (tree / "nowhere").symlink_to(tmp_path / "nowhere")
    (tree / "linked.dcm").symlink_to(tree / "real" / "0.dcm")
    os.mkfifo(tree / "pipe")
    said = {Path(one.name).name: (one.outcome.value, one.reason) for one in take_all(node, tree)}
    assert said == {
        "self": ("unreadable", os.strerror(errno.ELOOP)),
        "a": ("unreadable", os.strerror(errno.ELOOP)),
        "b": ("unreadable", os.strerror(errno.ELOOP)),
        "up": ("unreadable", "a link to a folder: name it to take what is in it"),
        "nowhere": ("unreadable", "a link to nothing"),
        "pipe": ("not DICOM", ""),
        "linked.dcm": ("taken", ""),
        "0.dcm": ("duplicate", ""),
    }


def test_what_may_not_be_read(node: SmallNode) -> None:
    """As somebody else, where we are root, who may read everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        tree.chmod(0o755)
        for at in ("file", "folder/in", "listed/in"):
            save(make_radiograph(rows=8), tree / at)
        modes = {"file": 0, "folder": 0, "listed": 0o444}
        for at, mode in modes.items():
            (tree / at).chmod(mode)
        os.seteuid(user or 65534)
        try:
            assert [(one.outcome, one.reason) for one in take_all(node, tree)] == [
                ("unreadable", os.strerror(errno.EACCES))
            ] * 3
        finally:
            os.seteuid(user)
            for at in modes:
                (tree / at).chmod(0o755)


def test_a_tree_deeper_than_python_can_call(node: SmallNode, tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(1000):
        folder /= "d"
        folder.mkdir()
    image = save(make_radiograph(rows=8), folder / "image.dcm")
    try:
        assert outcomes(take_all(node, tmp_path / "d")) == ["taken"]
    finally:  # which shutil.rmtree could not
        image.unlink()
        os.removedirs(folder)


def test_a_file_over_which_something_unforeseen_happens(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = _images(tmp_path / "images", 3, rows=8)

    def stumble(copy: Path, *, digest: str) -> ReceivedObject:
        if len(stored(node.records)) == 1 and "fault" not in caplog.text:
            raise ZeroDivisionError
        return examine(copy, digest=digest)

    monkeypatch.setattr("service.importing.importer.examine", stumble)
    taken = take_all(node, tmp_path / "images")
    assert outcomes(taken) == ["taken", "unreadable", "taken"]
    assert taken[1].reason == "unexpected fault: ZeroDivisionError"
    assert _nothing_is_half_taken(node, images) == 2
