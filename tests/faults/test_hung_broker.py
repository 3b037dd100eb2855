"""A Redis that takes connections and never answers holds up neither images nor completed studies."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from litegpt.phantoms import phantom_files
from service.records import overview
from service.records.database import Records
from service.settings import PREFIX, Settings, load_settings
from tests.node import BIN, QUICK
from tests.peers.dcmtk import dcmsend
from tests.peers.radiographs import as_new_studies, study_uids
from tests.ports import deaf_port, free_port, listens
from tests.processes import running

SECONDS_FOR_ALL_IMAGES = 15
"""Of three images; a wait for the broker's time-out in each would take as long, and more for the sweeper."""


@pytest.fixture
def hung_redis() -> Iterator[int]:
    """The port of somebody who accepts and never says a word."""
    with deaf_port() as port:
        yield port


def test_images_are_stored_and_studies_completed(tmp_path: Path, hung_redis: int) -> None:
    files = as_new_studies(phantom_files()[:3], tmp_path / "images")
    settings = {
        **QUICK,
        "data_dir": str(tmp_path / "data"),
        "dicom_port": str(free_port()),
        "broker_url": f"redis://127.0.0.1:{hung_redis}/0",
        "destinations": "PACS@127.0.0.1:1",
    }
    environment = {PREFIX + name.upper(): value for name, value in settings.items()}
    subprocess.run([BIN / "litegpt-node", "migrate"], env={**os.environ, **environment}, check=True)
    node, port = load_settings(**settings), int(settings["dicom_port"])
    with ExitStack() as stack:
        listener, sweeper = (
            stack.enter_context(
                running([BIN / "litegpt-node", part], log=tmp_path / f"{part}.log", environment=environment)
            )
            for part in ("listen", "sweep")
        )
        listener.wait_until(lambda: listens(port), 60, "listener")
        begun = time.monotonic()
        assert {sent.status for sent in dcmsend(port, *files)} == {0}
        assert time.monotonic() - begun < SECONDS_FOR_ALL_IMAGES
        sweeper.wait_until(lambda: _outcomes(node, study_uids(files)) == {"queued"}, 60, "studies completed")


def _outcomes(settings: Settings, studies: set[str]) -> set[str]:
    records = Records.open(settings)
    try:
        with records.reading() as session:
            views = overview.list_studies(session, 100)
    finally:
        records.close()
    assert {view.study_instance_uid for view in views} <= studies
    return {view.outcome for view in views} if len(views) == len(studies) else set()
