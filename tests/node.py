"""A node as a person runs it: ``litegpt-node up`` as a real process, with settings by the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from service.records import overview
from service.records.database import Records
from service.records.overview import StudyView
from service.settings import PREFIX, load_settings
from service.supervisor import running_port
from tests.processes import Process, running

BIN = Path(sys.executable).parent

QUICK = {
    "quiet_seconds": "1",
    "sweep_interval_seconds": "0.2",
    "retry_first_seconds": "0.5",
    "keep_association_seconds": "1",
    "web_port": "",
}
"""Settings under which a test need not wait as long as a hospital does; without the pages."""

_LOST = ("failed", "refused")
"""Outcomes that no waiting will change."""


class Node:
    """A node that is up."""

    def __init__(self, process: Process, data_dir: Path, settings: Mapping[str, str], port: int) -> None:
        self.process = process
        self.data_dir = data_dir
        self.port = port
        self.ae_title = settings.get("ae_title", "LITEGPT")
        self._settings = settings

    def studies(self) -> dict[str, StudyView]:
        """Every study by its UID, as ``litegpt-node studies`` would tell it."""
        with self.records() as records, records.reading() as session:
            return {view.study_instance_uid: view for view in overview.list_studies(session, 10_000)}

    @contextmanager
    def records(self) -> Iterator[Records]:
        """Its records, as another process of it has them."""
        records = Records.open(load_settings(**{**self._settings, "data_dir": self.data_dir}))
        try:
            yield records
        finally:
            records.close()

    def wait_for(self, study_uids: set[str], outcome: str, timeout_seconds: float = 120) -> list[StudyView]:
        """Waits until each of the studies has come to the outcome, such as ``delivered``.

        Raises:
            AssertionError: If one has failed or was refused instead.
            TimeoutError: If one has not come there; the text says where each stands.
            ChildProcessError: If the node ended.
        """
        last: dict[str, str] = {}

        def arrived() -> list[StudyView]:
            studies = self.studies()
            found = [studies[uid] for uid in study_uids if uid in studies]
            last.update({view.study_instance_uid: f"{view.outcome} {view.error}" for view in found})
            lost = [view for view in found if view.outcome in _LOST and view.outcome != outcome]
            assert not lost, last
            there = len(found) == len(study_uids) and all(view.outcome == outcome for view in found)
            return found if there else []

        try:
            return self.process.wait_until(arrived, timeout_seconds, f"{len(study_uids)} studies {outcome}")
        except TimeoutError as error:
            raise TimeoutError(f"{last}\n{error}") from None


@contextmanager
def node_up(folder: Path, *, ready_seconds: float = 60, **settings: str) -> Iterator[Node]:
    """Runs ``litegpt-node up`` until the block ends, then stops it as Ctrl-C would.

    Args:
        folder: Created; holds the data folder ``data`` and the log.
        ready_seconds: How long it may take to listen.
        **settings: By the settings' names, as text; a free port and :data:`QUICK` by default.
    """
    data_dir = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"dicom_port": "0", **QUICK, **settings}
    environment = {PREFIX + name.upper(): value for name, value in chosen.items()}
    if "database_url" in chosen:
        # `up` migrates by itself only the database that is its own.
        subprocess.run(
            [BIN / "litegpt-node", "migrate"], env={**os.environ, **environment}, cwd=folder, check=True
        )
    command = [BIN / "litegpt-node", "up", "--data-dir", data_dir]
    with running(
        command, log=folder / "node.log", environment=environment, folder=folder, stop_timeout_seconds=90
    ) as process:
        port = process.wait_until(_port_of(data_dir), ready_seconds, "node listening")
        yield Node(process, data_dir, chosen, port)


def _port_of(data_dir: Path) -> Callable[[], int | None]:
    return lambda: running_port(data_dir) or running_port(data_dir, "dicom_tls_port")
