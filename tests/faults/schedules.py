"""Schedules of kills, drawn by chance from a seed, and one study's way under each of them."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tests.faults.armed import SELF
from tests.faults.modality import Answered, at_rest, new_study, send
from tests.faults.promises import broken_promises
from tests.faults.rig import BROKER, DATABASE, Rig
from tests.faults.steps import STEPS, Step

STUDIES: Final = 2
IMAGES_OF_EACH: Final = 2
SETTLED_SECONDS: Final = 300.0
PAUSE_SECONDS: Final = 0.3


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


def play(rig: Rig, number: int, kills: Sequence[Kill], sent: list[Answered]) -> Outcome:
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
    folder = rig.folder / "images" / f"{number:04d}"
    open_files = [
        new_study(folder / str(study), IMAGES_OF_EACH, first_phantom=study * IMAGES_OF_EACH)
        for study in range(STUDIES)
    ]
    _arm(rig, number, kills)
    deadline = begun + SETTLED_SECONDS
    with ThreadPoolExecutor(STUDIES) as modalities:
        while time.monotonic() < deadline:
            rig.tend()
            if any(open_files):
                tries = modalities.map(lambda files: send(rig.port, files), open_files)
                for files, answered in zip(open_files, list(tries), strict=True):
                    sent += map(Answered.of, answered)
                    files[:] = [file for file in files if file not in answered]
                    outcome.sent_again += len(files)
            elif at_rest(rig.database, number * STUDIES + STUDIES):
                break
            time.sleep(PAUSE_SECONDS)
        else:
            outcome.broken.append(f"not at rest after {SETTLED_SECONDS:g} s")
    outcome.fired = [kill for kill in kills if (rig.folder / "fired" / kill.step.slug).exists()]
    _disarm(rig)
    outcome.broken += broken_promises(rig.database, rig.data_dir, rig.pacs, sent)
    outcome.seconds = time.monotonic() - begun
    return outcome


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
