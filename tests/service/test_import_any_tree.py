"""Any tree of good, doubled, corrected, conflicting, broken and other files, zipped or not; a large tree."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from service.importing.importer import Imported, Outcome
from service.importing.tally import REASONS, Tally
from tests.images import make_radiograph
from tests.service.import_command import ENVIRONMENT, outcomes, save, stored, take_all
from tests.worker.conftest import SmallNode, small_node


@dataclass(frozen=True)
class Image:
    """Which of a few images, in which of two pixels, with which of two headers."""

    which: int
    pixels: int
    header: int


Content = Image | str
CONTENTS = st.one_of(
    st.builds(Image, st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from(["broken", "not DICOM"]),
)
TREES = st.lists(st.tuples(st.lists(CONTENTS, min_size=1, max_size=3), st.booleans()), max_size=5)
"""Items of a tree: what is in it, and whether it is a zip file; else it is a folder."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallNode]:
    small = small_node(tmp_path_factory.mktemp("node"), minimum_free_bytes=0)
    small.bell.close()
    yield small
    small.records.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_every_file_of_any_tree_is_accounted_for_once(
    node: SmallNode, tree: list[tuple[list[Content], bool]]
) -> None:
    contents = [content for members, _ in tree for content in members]
    with TemporaryDirectory() as folder:
        names = _write(Path(folder), tree)
        foreseen = take_all(node, Path(folder), dry_run=True)
        taken = take_all(node, Path(folder))
        again = take_all(node, Path(folder))
    assert [one.name for one in taken] == names
    assert outcomes(taken) == _expected(contents)
    assert foreseen == taken
    assert all((one.size_bytes > 0) == (one.outcome == "taken") for one in taken)
    lost = {"broken": "unreadable", "not DICOM": "not DICOM"}
    assert outcomes(again) == [
        lost[content] if isinstance(content, str) else "duplicate" for content in contents
    ]


def _write(folder: Path, tree: list[tuple[list[Content], bool]]) -> list[str]:
    """Writes it in the order in which it is walked; the names are returned."""
    study, uids, names = generate_uid(), [generate_uid() for _ in range(2)], []
    for number, (members, is_zip) in enumerate(tree):
        files = [(f"{at}", _bytes(study, uids, content)) for at, content in enumerate(members)]
        path = folder / f"{number}"
        if is_zip:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files:
                    archive.writestr(name, content)
        else:
            path.mkdir()
            for name, content in files:
                (path / name).write_bytes(content)
        names += [f"{path}{'!' if is_zip else '/'}{name}" for name, _ in files]
    return names


def _bytes(study: str, uids: list[str], content: Content) -> bytes:
    if content == "not DICOM":
        return b"some text"
    image = content if isinstance(content, Image) else Image(0, 0, 0)
    dataset = make_radiograph(
        rows=16,
        bits_stored=(12, 10)[image.pixels],
        study_uid=study,
        series_uid=study,
        sop_instance_uid=uids[image.which],
        PatientName=("Before^Merge", "After^Merge")[image.header],
    )
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue() if isinstance(content, Image) else file.getvalue()[:-50]


def _expected(contents: list[Content]) -> list[str]:
    """One after the other: the first of an image says which pixels the later ones must have."""
    first: dict[int, int] = {}
    seen, expected = set(), []
    for content in contents:
        if isinstance(content, str):
            expected.append({"broken": "unreadable"}.get(content, content))
        elif content in seen:
            expected.append("duplicate")
        else:
            seen.add(content)
            same = first.setdefault(content.which, content.pixels) == content.pixels
            expected.append("taken" if same else "conflict")
    return expected


IMPORT_EACH = """
import sys, tracemalloc
from service.cli.main import application
# Python's table of interned names, which paths are, doubles by megabytes: it gets room for all beforehand.
names = [sys.intern(f"name {number}") for number in range(200_000)]
del names
for folder in sys.argv[1:]:
    tracemalloc.start()
    application()(["import", "--list", "--json", folder], standalone_mode=False)
    print(tracemalloc.get_traced_memory()[1], file=sys.stderr)
    tracemalloc.stop()
"""
"""Prints the most bytes that Python held at once while each folder was imported."""


def test_reasons_without_end_are_summed_up() -> None:
    """Headers say anything: the sums hold so many different reasons and no more."""
    tally = Tally()
    for number in range(1000):
        tally.add(Imported("name", Outcome.TAKEN, f"body part {number}"))
    assert len(tally.reasons) == REASONS + 1
    assert tally.reasons.total() == tally.counts[Outcome.TAKEN] == 1000


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    """300 files against 3,000, and everything listed; the first import loads what the later ones have."""
    node = small_node(tmp_path / "node-data", minimum_free_bytes=0)
    node.bell.close()
    folders = [_many(tmp_path / str(images), images) for images in (5, 15, 150)]
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *folders],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    _, small, large = map(int, ended.stderr.split())
    assert large - small < 200_000
    assert len(stored(node.records)) == 5 + 15 + 150
    node.records.close()


def _many(folder: Path, images: int) -> Path:
    """Twenty files for each image: it, its duplicates, and what cannot be read."""
    for number in range(images):
        path = save(make_radiograph(rows=8, columns=8), folder / f"{number // 5}" / f"{number}.dcm")
        content = path.read_bytes()
        for more in range(6):
            path.with_suffix(f".again-{more}").write_bytes(content)
            path.with_suffix(f".broken-{more}").write_bytes(content[:300])
        for more in range(7):
            path.with_suffix(f".text-{more}").write_text("not DICOM")
    return folder
