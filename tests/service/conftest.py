"""A node's footing on both databases: settings, migrated records, an archive, a receiver of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import text

from litegpt.identity import ModelIdentity
from litegpt.isolation import Isolation
from service.archive import Archive
from service.completion import Completion
from service.eligibility import Eligibility
from service.peers import Destination
from service.records.database import Records
from service.records.intake import Receiver
from service.records.migrate import migrate
from service.records.tables import Base
from service.rules.rule import DEFAULT, ResultRule
from service.settings import Settings, load_settings
from service.wire.lane import Lane
from service.wire.listener import Listener, configure_process

MODEL = ModelIdentity("litegpt-test", "1", demonstration=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings on each of the two databases, with nothing to wait for."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return load_settings(
        data_dir=tmp_path / "node",
        database_url=url,
        dicom_host="127.0.0.1",
        dicom_port=0,
        quiet_seconds=0,
        minimum_free_bytes=0,
        retry_first_seconds=0,
        retry_maximum_seconds=0,
    )


@pytest.fixture
def records(settings: Settings) -> Iterator[Records]:
    """Records with every table, and nothing in them."""
    records = Records.open(settings)
    migrate(records.engine)
    with records.writing() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DELETE FROM {table.name}"))
    yield records
    records.close()


@pytest.fixture
def archive(settings: Settings) -> Archive:
    """An archive with nothing in it."""
    archive = Archive(settings.data_dir)
    archive.prepare()
    return archive


@pytest.fixture
def receiver(settings: Settings, records: Records, archive: Archive) -> Receiver:
    """Takes files as the listener does, without the wire."""
    return Receiver(records, archive, Eligibility.of(settings), isolation=Isolation(0))


@pytest.fixture
def completion(settings: Settings) -> Completion:
    """Completes whatever is there at once, for one model."""
    return Completion.of(settings, MODEL)


def incoming(archive: Archive, dataset: Dataset) -> Path:
    """The dataset as a file that has just been received."""
    path = archive.incoming / f"{dataset.SOPInstanceUID}.{id(dataset)}.part"
    dataset.save_as(path, enforce_file_format=True)
    return path


def sent_to(*destinations: Destination) -> ResultRule:
    """The rule of a node that has none of its own."""
    return ResultRule(name=DEFAULT, destinations=destinations)


@pytest.fixture
def process_settings() -> Iterator[None]:
    """Puts back what a listener's ``main`` sets per process."""
    import tempfile

    from pynetdicom import _config

    before = (tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL)
    yield
    tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL = before


@pytest.fixture(params=["the short way", "pynetdicom's way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a C-STORE may go through a listener, which promises the same on each."""
    if request.param != "the short way":
        monkeypatch.setattr(Lane, "pass_on", lambda *_: False)
    return str(request.param)


@contextmanager
def listening_node(settings: Settings) -> Iterator[tuple[Listener, Records]]:
    """A listener, and the records that it writes into; its test asks for ``process_settings``, too."""
    configure_process(settings)
    records = Records.open(settings)
    migrate(records.engine)
    listener = Listener(settings)
    listener.start()
    try:
        yield listener, records
    finally:
        listener.stop()
        records.close()
