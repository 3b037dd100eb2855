"""A node on SQLite with its records, archive and bell, for tests that run a worker's part in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

from service import queue
from service.archive import Archive
from service.completion import Completion
from service.eligibility import Eligibility
from service.records import overview
from service.records.database import Records
from service.records.intake import Receiver
from service.records.migrate import migrate
from service.records.overview import StudyView
from service.settings import Settings, load_settings


@dataclass
class SmallNode:
    """A node's parts without its processes."""

    settings: Settings
    records: Records
    archive: Archive
    bell: queue.Bell

    def take(self, *datasets: Dataset) -> None:
        """Receives images and completes their studies at once."""
        self.receive(*datasets)
        Completion.at_present(self.settings, self.records).complete_due(self.records)

    def receive(self, *datasets: Dataset) -> None:
        """Receives images, and no more."""
        receiver = Receiver(self.records, self.archive, Eligibility.of(self.settings))
        for number, dataset in enumerate(datasets):
            path = self.archive.incoming / f"{number}.part"
            dataset.save_as(path, enforce_file_format=True)
            receiver.take(path)

    def show(self, study_instance_uid: str) -> StudyView:
        """What an admin sees of a study."""
        with self.records.reading() as session:
            return overview.show_study(session, study_instance_uid)


def small_node(folder: Path, **settings: object) -> SmallNode:
    """A node in a folder, with nothing to wait for."""
    values: dict[str, object] = {
        "quiet_seconds": 0,
        "retry_first_seconds": 0,
        "retry_maximum_seconds": 0,
        "maximum_attempts": 3,
        "dimse_timeout_seconds": 5,
        "decoding_processes": 0,
        "keep_association_seconds": 0,
    }
    loaded = load_settings(data_dir=folder, **(values | settings))
    archive, records = Archive(loaded.data_dir), Records.open(loaded)
    archive.prepare()
    queue.prepare_broker(loaded)
    migrate(records.engine)
    return SmallNode(loaded, records, archive, queue.Bell(loaded))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    """A node with one destination that nobody listens on."""
    small = small_node(tmp_path / "node", destinations=["PACS@127.0.0.1:1"])
    yield small
    small.records.close()
    small.bell.close()
