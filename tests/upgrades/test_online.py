"""On PostgreSQL the schema moves under the release before, and then new processes take over from old ones.

Images come all the time. Each is answered, and recorded; each study is delivered once; nobody logs an error.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from service.records.migrate import releases
from service.records.schema import revision_of
from service.settings import PREFIX
from tests.faults.modality import Answered
from tests.faults.promises import broken_promises
from tests.faults.rig import BROKER, DATABASE, PACS, WORKING, Rig
from tests.peers.dcmtk import Storescp, storescp
from tests.service.test_migrations import NEWEST
from tests.services.postgres import PrivateServer, private_server
from tests.upgrades.modality import Modality
from tests.upgrades.released import unpack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
IMAGES_BETWEEN = 8
"""As many are answered between one thing that an admin does and the next."""


class Generation(Rig):
    """A node of one version's code; a later one stands beside, on the same database, broker and archive."""

    def __init__(
        self,
        folder: Path,
        server: PrivateServer,
        pacs: Storescp,
        code: Path,
        beside: Generation | None = None,
    ) -> None:
        self._code = code
        own = {"destinations": pacs.destination}
        super().__init__(folder, server, random.Random(1), armed=False, settings=own)
        if beside is not None:
            self.data_dir, self._broker_url = beside.data_dir, beside._broker_url
            self.parts = {part.name: part for part in self._parts(server, 0, WORKING) if part.name in WORKING}

    @property
    def environment(self) -> dict[str, str]:
        """The settings that its version knows, with leases that nobody outlives: whatever is sent twice is
        a fault."""
        known = (self._code / "service" / "settings.py").read_text()
        settings = {
            name: value
            for name, value in super().environment.items()
            if not name.startswith(PREFIX) or f" {name.removeprefix(PREFIX).lower()}: " in known
        }
        leases = {f"LITEGPT_{of}_LEASE_SECONDS": "120" for of in ("ANALYSIS", "DELIVERY")}
        return {**settings, **leases, "PYTHONPATH": str(self._code)}

    def _commands(self) -> dict[str, list[str]]:
        return {
            name: [word.replace("@%h", f"@{self.folder.name}") for word in command]
            for name, command in super()._commands().items()
        }

    def schema(self) -> str | None:
        """What the database has."""
        with create_engine(self.database, poolclass=NullPool).connect() as connection:
            return revision_of(connection)

    def results_sent(self) -> int:
        """How many deliveries of results are over."""
        with create_engine(self.database, poolclass=NullPool).connect() as connection:
            sent = "SELECT count(*) FROM delivery WHERE state = 'sent' AND result_id IS NOT NULL"
            return int(connection.execute(text(sent)).scalar_one())

    def start_node(self) -> None:
        """Starts its processes, beside what is there."""
        for name in WORKING:
            self.parts[name].start_and_wait()

    def stop_node(self) -> None:
        """Ends its processes, not what they stand on."""
        for name in WORKING:
            self.parts[name].stop()

    def complaints(self) -> list[str]:
        """Every line of a log that tells of an error."""
        logs = [
            log
            for log in (self.folder / "logs").glob("*.log")
            if not log.name.startswith((DATABASE, BROKER, PACS))
        ]
        lines = [f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()]
        return [line for line in lines if re.search(r"\bERROR\b|\bCRITICAL\b|Traceback|Error:", line)]


@contextmanager
def _generations(folder: Path) -> Iterator[tuple[Generation, Generation, Storescp]]:
    old_code = unpack(releases()[-1]["commit"], folder / "code")
    with private_server() as server, storescp(folder / "pacs", ae_title="PACS") as pacs:
        old = Generation(folder / "old", server, pacs, old_code)
        new = Generation(folder / "new", server, pacs, ROOT, beside=old)
        try:
            old.start()
            yield old, new, pacs
        finally:
            new.stop()
            old.stop()


def test_a_node_is_upgraded_while_images_come(tmp_path: Path) -> None:
    with _generations(tmp_path) as (old, new, pacs):
        assert old.schema() == releases()[-1]["schema"]
        with Modality(tmp_path / "images", old.port) as modality:
            modality.wait_for_more(IMAGES_BETWEEN)
            migrated = new.run_command("migrate")
            assert migrated.returncode == 0, migrated.stderr
            assert old.schema() == NEWEST
            modality.wait_for_more(IMAGES_BETWEEN)
            new.start_node()
            modality.ports.append(new.port)
            modality.wait_for_more(IMAGES_BETWEEN)
            modality.ports.remove(old.port)
            modality.wait_for_more(1)  # until the old listener has none in hand
            old.stop_node()
            modality.wait_for_more(IMAGES_BETWEEN)
        assert modality.refused == []
        wait_until(lambda: new.results_sent() >= modality.studies, 300, "report of each study sent")
        answered = [Answered.of(file) for file in modality.answered]
        assert broken_promises(new.database, new.data_dir, pacs, answered) == []
        assert pacs.store_requests() == modality.studies
        assert old.complaints() == new.complaints() == []
