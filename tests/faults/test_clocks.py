"""Clocks that are wrong, differ, and jump: every study is read once, delivered once, and waits for no clock.

Each part has a clock of its own (``wrong_clock.c``), and they jump while studies are on their way; the
database's is this machine's, and a node on PostgreSQL follows it.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from litegpt.phantoms import phantom_files
from tests.faults.modality import Answered, at_rest
from tests.faults.promises import broken_promises
from tests.faults.rig import Rig, rig_up
from tests.faults.steps import ANALYSIS, DELIVERY, LISTENER, SWEEPER
from tests.peers.dcmtk import dcmsend
from tests.peers.radiographs import as_new_studies
from tests.presence import program
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

HOUR, DAY = 3600, 86400
FROM_THE_START = {LISTENER: -DAY, SWEEPER: 0, ANALYSIS: HOUR, DELIVERY: -61}
JUMPED = (
    {LISTENER: DAY, SWEEPER: -DAY, ANALYSIS: -HOUR, DELIVERY: DAY},
    {LISTENER: -DAY, SWEEPER: DAY, ANALYSIS: DAY, DELIVERY: -DAY},
)
"""How far each part's clock is off, in seconds."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of a rig's parts, each a file that says how far it is off."""

    folder: Path

    def set(self, offsets: dict[str, int]) -> None:
        """Sets them: at once, for whoever runs."""
        for part, seconds in offsets.items():
            new = self.folder / f"{part}.new"
            new.write_text(f"{seconds}\n")
            new.rename(self.folder / part)

    def environment_of(self, part: str) -> dict[str, str]:
        """With which a program sees such a clock."""
        return {"LD_PRELOAD": str(self._library()), "WRONG_CLOCK": str(self.folder / part)}

    def _library(self) -> Path:
        library = self.folder / "wrong_clock.so"
        source = Path(__file__).with_name("wrong_clock.c")
        command = [program("gcc", package="gcc"), "-shared", "-fPIC", "-O1", "-o", library, source]
        subprocess.run(command, check=True)
        return library


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[tuple[Rig, Clocks]]:
    folder = tmp_path / "clocks"
    folder.mkdir()
    clocks = Clocks(folder)
    clocks.set(FROM_THE_START)
    own = {part: clocks.environment_of(part) for part in FROM_THE_START}
    # Leases that a busy machine keeps: the clocks alone are to blame for what is done twice.
    leases = {"analysis_lease_seconds": "60", "delivery_lease_seconds": "60", "dimse_timeout_seconds": "30"}
    with rig_up(tmp_path / "rig", random.Random(1), own_environment=own, settings=leases) as rig:
        yield rig, clocks


def test_every_study_is_read_and_delivered_once(rig: tuple[Rig, Clocks], tmp_path: Path) -> None:
    node, clocks = rig
    files = as_new_studies(phantom_files()[:3], tmp_path / "images")
    for number, file in enumerate(files):
        assert {sent.status for sent in dcmsend(node.port, file)} == {0}
        if number:
            clocks.set(JUMPED[number - 1])
        wait_until(
            lambda came=number + 1: at_rest(node.database, came), 180, f"{number + 1} studies at the PACS"
        )
    answered = [Answered.of(file) for file in files]
    assert broken_promises(node.database, node.data_dir, node.pacs, answered) == []
    assert node.ask("SELECT max(attempt) FROM analysis") == 1
    assert node.ask("SELECT max(attempt) FROM delivery") == 1
    assert node.store_requests() == len(files)
    # What was written is the database's time, to the second.
    assert node.ask("SELECT max(abs(extract(epoch FROM now() - finished_at))) FROM analysis") < 400
    assert node.ask("SELECT count(*) FROM analysis WHERE finished_at < created_at") == 0
