"""Digests taken while a dataset arrives: the same as of the file, whatever the parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from litegpt.phantoms import phantom_files
from service import received
from service.received import Digest, examine
from service.records.tables import Instance
from service.settings import load_settings
from service.wire.digesting import Digester
from tests.peers.dcmtk import dcmsend
from tests.service.conftest import listening_node


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 400_000), max_size=20), seed=st.binary(min_size=1, max_size=8))
def test_the_digest_is_that_of_all_parts(threads: ThreadPoolExecutor, sizes: list[int], seed: bytes) -> None:
    parts = [(seed * size)[:size] for size in sizes]
    digester = Digester(threads)
    for part in parts:
        digester.update(part)
    whole = b"".join(parts)
    assert digester.digest() == Digest(hashlib.sha256(whole).hexdigest(), len(whole))


def test_many_at_once_do_not_mix(threads: ThreadPoolExecutor) -> None:
    contents = [bytes([number]) * 2_400_000 for number in range(16)]
    digesters = [Digester(threads) for _ in contents]
    for start in range(0, 2_400_000, 400_000):
        for digester, content in zip(digesters, contents, strict=True):
            digester.update(content[start : start + 400_000])
    for digester, content in zip(digesters, contents, strict=True):
        assert digester.digest().sha256 == hashlib.sha256(content).hexdigest()


def test_a_digest_of_another_number_of_bytes_is_not_believed() -> None:
    file = phantom_files()[0]
    own = examine(file)
    size = file.stat().st_size - _offset(file)
    assert examine(file, digest=lambda: Digest("taken", size)).digest == "taken"
    assert examine(file, digest=lambda: Digest("taken", size - 1)).digest == own.digest


def _offset(file: Path) -> int:
    content = file.read_bytes()
    return 144 + int.from_bytes(content[140:144], "little")


@pytest.mark.usefixtures("process_settings")
def test_what_comes_over_the_wire_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several datasets of one association: each row has the digest of its own file."""

    def read_again(path: Path, offset: int = 0) -> str:
        raise AssertionError("the file was read for its digest")

    monkeypatch.setattr(received, "file_digest", read_again)
    settings = load_settings(
        data_dir=tmp_path / "node", dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=0
    )
    with listening_node(settings) as (listener, records):
        sent = dcmsend(listener.port, *phantom_files()[:6])
        assert [one.status for one in sent] == [0] * 6
        with records.reading() as session:
            rows = session.execute(select(Instance.path, Instance.digest)).all()
    assert len(rows) == 6
    for path, digest in rows:
        content = (settings.data_dir / path).read_bytes()
        assert hashlib.sha256(content[_offset(settings.data_dir / path) :]).hexdigest() == digest
