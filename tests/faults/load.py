"""Many modalities at once, while workers are killed and the PACS is restarted: nothing lost, nothing twice.

    python -m tests.faults.load [--modalities 8] [--images 500] [--kill-every 20] [--pacs-restarts 2]
                                [--folder FOLDER] [--out benchmarks/results/load.json]

Each modality sends studies of two images, one after the other, to a node in parts (listener, sweeper,
analysis worker, delivery worker) with a PostgreSQL, a Redis and a PACS (dcmtk's storescp) of its own, and
sends again what was not answered with Success. Every so many seconds a worker gets SIGKILL, drawn by chance
among those that have been at work again for at least half as long (a busy machine starts them slowly); the
PACS is away for five seconds as often as is said. When all is at rest, records, archive and PACS are looked
up.

Exit code 1 where something was lost or is there twice. Ctrl-C ends everything.

Example: python -m tests.faults.load --modalities 4 --images 10 --kill-every 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

import pytest

from tests.beside import Beside
from tests.faults.modality import Answered, Standing, new_study, send_together, standing
from tests.faults.promises import broken_promises
from tests.faults.rig import PACS, Rig, rig_up
from tests.faults.steps import ANALYSIS, DELIVERY

IMAGES_OF_EACH: Final = 2
PACS_AWAY_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_STUCK_SECONDS: Final = 300.0
"""Nothing has moved for so long: it will not come to rest."""

SETTINGS: Final = {"quiet_seconds": "2", "sweep_interval_seconds": "0.5", "maximum_attempts": "100"}
"""Attempts enough that no study is quarantined because it was at work at several kills."""


@dataclass(frozen=True)
class Plan:
    """What is to happen.

    Attributes:
        images: Of each modality.
        kill_every_seconds: Between two kills of a worker; 0: none is killed.
        most_kills: Then no more are.
        pacs_restarts: How often, spread over the time in which studies are delivered.
    """

    modalities: int = 8
    images: int = 500
    kill_every_seconds: float = 20.0
    most_kills: float = inf
    pacs_restarts: int = 2
    seed: int = 1

    @property
    def studies(self) -> int:
        """Of all modalities."""
        return self.modalities * -(-self.images // IMAGES_OF_EACH)


@dataclass
class Course:
    """What has happened.

    Attributes:
        answered: What was answered with Success.
        sent_again: Studies that were sent again, since not all of their images were answered.
        receiving_seconds: Until the last image was answered.
        seconds: Until all was at rest.
        broken: The promises that did not hold.
    """

    answered: list[Answered] = field(default_factory=list)
    sent_again: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    pacs_restarts: int = 0
    receiving_seconds: float = 0.0
    seconds: float = 0.0
    stored_at_pacs: int = 0
    broken: list[str] = field(default_factory=list)


class Modalities(Beside):
    """All of them, each in a thread of its own, until each has been answered all of its images."""

    def __init__(self, rig: Rig, plan: Plan, course: Course) -> None:
        self._rig, self._plan, self._course = rig, plan, course
        super().__init__(
            {f"modality {number}": partial(self._work, number) for number in range(plan.modalities)}
        )

    @property
    def are_done(self) -> bool:
        """Whether no image is left to be sent."""
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, number: int) -> None:
        for first in range(0, self._plan.images, IMAGES_OF_EACH):
            folder = self._rig.folder / "images" / f"{number}-{first:05d}"
            count = min(IMAGES_OF_EACH, self._plan.images - first)
            files = new_study(folder, count, first_phantom=number + first)
            while files and not self._over.is_set():
                answered = send_together(self._rig.port, files)
                self._course.answered += map(Answered.of, answered)
                files = [file for file in files if file not in answered]
                if files:
                    self._course.sent_again += 1
                    self._over.wait(_PAUSE_SECONDS)
            shutil.rmtree(folder)
            if self._over.is_set():
                return


class Misfortune:
    """Kills workers by the clock, and takes the PACS away when enough has been delivered."""

    def __init__(self, rig: Rig, plan: Plan, course: Course) -> None:
        self._rig, self._plan, self._course = rig, plan, course
        self._luck = random.Random(plan.seed)
        self._kill_at = time.monotonic() + plan.kill_every_seconds
        self._had_done = {ANALYSIS: 0, DELIVERY: 0}
        self._at_work_since: dict[str, float] = {}

    def strike(self, stand: Standing) -> None:
        """Does what is due, and starts again what was killed."""
        self._see_who_works({ANALYSIS: stand.read, DELIVERY: stand.delivered})
        may_kill = self._plan.kill_every_seconds and self._course.kills.total() < self._plan.most_kills
        if may_kill and time.monotonic() >= self._kill_at:
            self._kill()
        restarts = self._course.pacs_restarts
        next_at = (restarts + 1) / (self._plan.pacs_restarts + 1) * self._plan.studies
        if restarts < self._plan.pacs_restarts and stand.delivered >= next_at:
            self._course.pacs_restarts += 1
            self._rig.parts[PACS].kill()
        self._rig.tend({PACS: PACS_AWAY_SECONDS})

    def _see_who_works(self, done: Mapping[str, int]) -> None:
        """A worker is at work again once it has brought something further since it was killed."""
        for name, count in done.items():
            if count > self._had_done[name]:
                self._at_work_since.setdefault(name, time.monotonic())
        self._done = done

    def _kill(self) -> None:
        now, every = time.monotonic(), self._plan.kill_every_seconds
        at_work = [name for name, since in self._at_work_since.items() if now - since >= every / 2]
        if at_work:
            victim = self._luck.choice(sorted(at_work))
            self._rig.parts[victim].kill()
            self._course.kills[victim] += 1
            self._had_done[victim] = self._done[victim]
            del self._at_work_since[victim]
            self._kill_at = now + every


def play(rig: Rig, plan: Plan, tell: Callable[[str], None]) -> Course:
    """Everything, until the node is at rest and has been looked at.

    Args:
        rig: A node that is up, new and unarmed.
        plan: What is to happen.
        tell: Takes a line of how far it is, now and then.
    """
    course, begun = Course(), time.monotonic()
    misfortune = Misfortune(rig, plan, course)
    seen, moved_at = Standing(), begun
    with Modalities(rig, plan, course) as modalities:
        while True:
            stand, now = standing(rig.database), time.monotonic()
            if modalities.are_done and not course.receiving_seconds:
                course.receiving_seconds = now - begun
            if modalities.are_done and stand.delivered == stand.came == plan.studies:
                break
            if stand > seen:
                seen, moved_at = stand, now
            elif now - moved_at > _STUCK_SECONDS:
                course.broken.append(f"not at rest: {stand}")
                break
            misfortune.strike(stand)
            tell(_progress(now - begun, plan, course, stand))
            time.sleep(_PAUSE_SECONDS)
    course.seconds = time.monotonic() - begun
    course.broken += broken_promises(rig.database, rig.data_dir, rig.pacs, course.answered)
    course.stored_at_pacs = rig.store_requests()
    return course


def _progress(seconds: float, plan: Plan, course: Course, stand: Standing) -> str:
    return (
        f"{seconds:5.0f} s  {len(course.answered)} of {plan.modalities * plan.images} images answered, "
        f"of {plan.studies} studies {stand.read} read, {stand.delivered} delivered; "
        f"{course.kills.total()} kills, {course.pacs_restarts} restarts of the PACS"
    )


def report(plan: Plan, course: Course, command: str) -> dict[str, Any]:
    """All that is to be kept of a run."""
    images = len(course.answered)
    return {
        "command": command,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[1], 1),
        "modalities": plan.modalities,
        "images": images,
        "studies": plan.studies,
        "workers_killed": dict(sorted(course.kills.items())),
        "pacs_restarts": course.pacs_restarts,
        "studies_sent_again": course.sent_again,
        "receiving_seconds": round(course.receiving_seconds, 1),
        "seconds": round(course.seconds, 1),
        "images_received_per_second": round(images / course.receiving_seconds, 1),
        "images_delivered_per_second": round(images / course.seconds, 1),
        "stores_at_the_pacs": course.stored_at_pacs,
        "broken_promises": course.broken,
    }


class _Teller:
    """A line that goes on on a terminal; every ten seconds a new one elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._at = 0.0

    def __call__(self, line: str) -> None:
        if self._on_terminal:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._at >= 10:
            self._at = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.load", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--modalities", type=int, default=plan.modalities, help="that send at once (8)")
    parser.add_argument("--images", type=int, default=plan.images, help="of each modality (500)")
    parser.add_argument(
        "--kill-every",
        type=float,
        default=plan.kill_every_seconds,
        help="seconds; 0: none is killed (20)",
    )
    parser.add_argument("--pacs-restarts", type=int, default=plan.pacs_restarts, help="how often (2)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="draws who is killed (1)")
    parser.add_argument("--folder", type=Path, help="new; the node and its logs stay there")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Reads the command line, plays, tells; SIGTERM ends all as Ctrl-C does."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.folder and asked.folder.exists():
        parser.error(f"{asked.folder} is there already")
    if asked.modalities < 1 or asked.images < 1:
        parser.error("at least one modality and one image")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(
        asked.modalities, asked.images, asked.kill_every, pacs_restarts=asked.pacs_restarts, seed=asked.seed
    )
    temporary = tempfile.TemporaryDirectory(prefix="litegpt-load-")
    try:
        with nullcontext(asked.folder) if asked.folder else temporary as folder:
            luck = random.Random(plan.seed)
            with rig_up(Path(folder).absolute(), luck, armed=False, settings=SETTINGS) as rig:
                course = play(rig, plan, _Teller())
    except KeyboardInterrupt:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    except pytest.skip.Exception as missing:
        print(f"cannot run: {missing}", file=sys.stderr)
        return 2
    told = report(plan, course, f"python -m tests.faults.load {' '.join(arguments)}".strip())
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print()
    for name, value in told.items():
        print(f"{name.replace('_', ' '):28} {value}")
    print("\n".join(course.broken) or "nothing lost, nothing twice")
    return int(bool(course.broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
