"""Schedules of kills, drawn by chance from a seed, and one study's way under each of them."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from litegpt.phantoms import phantom_files
from tests.faults.armed import SELF
from tests.faults.promises import broken_promises
from tests.faults.rig import BROKER, DATABASE, Rig
from tests.faults.steps import STEPS, Step
from tests.peers.dcmtk import dcmsend

STUDIES: Final = 2
IMAGES_OF_EACH: Final = 2
SETTLED_SECONDS: Final = 120.0
PAUSE_SECONDS: Final = 0.3

_REST = """
    SELECT count(*) FROM study s
    LEFT JOIN analysis a ON a.id = (SELECT max(id) FROM analysis WHERE study_id = s.id AND counts)
    LEFT JOIN result r ON r.analysis_id = a.id
    LEFT JOIN delivery d ON d.result_id = r.id
    WHERE s.state <> 'complete'
        OR a.state IS NULL OR a.state <> 'done' OR d.state IS NULL OR d.state <> 'sent'
"""


@dataclass(frozen=True)
class Kill:
    """Who dies when a step is reached for the ``which``-th time."""

    step: Step
    which: int
    victim: str

    def __str__(self) -> str:
        victim = self.step.part if self.victim == SELF else self.victim
        return f"{victim} at {self.step.part}: {self.step.name} ({self.which})"


@dataclass
class Outcome:
    """What a schedule came to.

    Attributes:
        fired: The kills that happened; a step may not be reached after another kill.
        broken: The promises that did not hold.
    """

    number: int
    kills: Sequence[Kill]
    fired: list[Kill] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    sent_again: int = 0


def every_step_once(victims: Sequence[str] = (SELF,)) -> Iterator[list[Kill]]:
    """Schedules that reach all steps, those of different parts together."""
    parts = {step.part: [one for one in STEPS if one.part == step.part] for step in STEPS}
    for victim in victims:
        for number in range(max(map(len, parts.values()))):
            yield [Kill(steps[number], 1, victim) for steps in parts.values() if number < len(steps)]


def drawn(luck: random.Random) -> list[Kill]:
    """One to three kills."""
    steps = luck.sample(STEPS, luck.choice((1, 1, 2, 3)))
    return [Kill(step, luck.choice((1, 1, 2)), luck.choice((SELF, SELF, DATABASE, BROKER))) for step in steps]


def play(rig: Rig, number: int, kills: Sequence[Kill], sent: list[Path]) -> Outcome:
    """Sends new studies under a schedule, as a modality that sends again what was not answered.

    Args:
        rig: A node at rest.
        number: The schedule's.
        kills: The schedule.
        sent: Everything that was answered with Success; what is answered now is added.

    Returns:
        What came of it, with the node at rest again.
    """
    outcome, begun = Outcome(number, kills), time.monotonic()
    studies = _new_studies(rig.folder / "images" / f"{number:04d}")
    _arm(rig, number, kills)
    open_files = [list(files) for files in studies]
    deadline = begun + SETTLED_SECONDS
    with ThreadPoolExecutor(STUDIES) as modalities:
        while time.monotonic() < deadline:
            rig.tend()
            if any(open_files):
                tries = modalities.map(lambda files: _send(rig.port, files), open_files)
                for files, answered in zip(open_files, list(tries), strict=True):
                    sent += answered
                    files[:] = [file for file in files if file not in answered]
                    outcome.sent_again += len(files)
            elif _at_rest(rig, number * STUDIES + STUDIES):
                break
            time.sleep(PAUSE_SECONDS)
        else:
            outcome.broken.append(f"not at rest after {SETTLED_SECONDS:g} s")
    outcome.fired = [kill for kill in kills if (rig.folder / "fired" / kill.step.slug).exists()]
    _disarm(rig)
    outcome.broken += broken_promises(rig, sent)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _new_studies(folder: Path) -> list[list[Path]]:
    """Phantoms as studies of several images."""
    folder.mkdir(parents=True)
    phantoms = phantom_files()
    studies = []
    for study in range(STUDIES):
        uid, files = generate_uid(), []
        for image in range(IMAGES_OF_EACH):
            dataset = pydicom.dcmread(phantoms[(study * IMAGES_OF_EACH + image) % len(phantoms)])
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, generate_uid()
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            files.append(folder / f"{study}-{image}.dcm")
            dataset.save_as(files[-1], enforce_file_format=True)
        studies.append(files)
    return studies


def _send(port: int, files: Sequence[Path]) -> list[Path]:
    """Sends files one by one; those that were answered with Success are returned."""
    answered = []
    for file in files:
        try:
            (reply,) = dcmsend(port, file)
        except (AssertionError, ValueError):  # no association, or it was cut
            continue
        if reply.status == 0:
            answered.append(file)
    return answered


def _arm(rig: Rig, number: int, kills: Sequence[Kill]) -> None:
    for kill in kills:
        victim = kill.victim
        if victim != SELF:
            process = rig.parts[victim].process
            victim = str(process.pid) if process else SELF
        (rig.folder / "armed" / kill.step.slug).write_text(f"{number} {kill.which} {victim}")


def _disarm(rig: Rig) -> None:
    for name in ("armed", "fired"):
        shutil.rmtree(rig.folder / name)
        (rig.folder / name).mkdir()


def _at_rest(rig: Rig, studies: int) -> bool:
    """Whether everything that came is delivered."""
    engine = create_engine(rig.database, poolclass=NullPool, connect_args={"connect_timeout": 2})
    try:
        with engine.connect() as connection:
            known = connection.execute(text("SELECT count(*) FROM study")).scalar_one()
            return known == studies and connection.execute(text(_REST)).scalar_one() == 0
    except DBAPIError:
        return False
