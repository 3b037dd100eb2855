"""A node at steady work for half an hour: memory, threads and file descriptors of every process stay flat.

    python -m tests.faults.soak [--minutes 30] [--every 3] [--folder FOLDER]
                                [--out benchmarks/results/soak.json] [--plot docs/soak.png]

A modality sends a study of two images every few seconds, and a dozen at first, to a node in parts (listener,
sweeper, analysis worker, delivery worker, retriever, web server; PostgreSQL, Redis, dcmtk's storescp as the
PACS), its pages and /metrics are asked, and all processes are sampled. Writes every sample (samples.jsonl in
the folder), the verdicts (--out) and a plot (--plot). Exit code 1 where something grows, or a promise is
broken.
Ctrl-C ends everything.
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
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.beside import Beside
from tests.faults.modality import Answered, at_rest, new_study, send_together
from tests.faults.promises import broken_promises
from tests.faults.rig import BROKER, DATABASE, PACS, RETRIEVER, WEB, WORKING, Rig, rig_up
from tests.faults.soak_plot import draw
from tests.faults.vitals import MEMORY, Sample, Verdict, look, verdicts
from tests.scrape import ask, web_url
from tests.waiting import wait_until

SAMPLED_EVERY_SECONDS: Final = 5.0
PAGES_EVERY_SECONDS: Final = 3.0
IMAGES_OF_EACH: Final = 2
FIRST_AT_ONCE: Final = 12
"""Studies at the beginning: pools of connections and batches come to their size before it is looked at."""
_REST_SECONDS: Final = 120.0

_SETTINGS: Final = {
    "web_port": "0",
    "sweep_interval_seconds": "1",
    "quiet_seconds": "2",
    "analysis_lease_seconds": "120",
    "dimse_timeout_seconds": "60",
    "delivery_lease_seconds": "300",
}
"""As a hospital has them, but for the quiet time."""

_CONNECTIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


class Stream(Beside):
    """A modality that goes on sending, and a person who goes on looking, each in a thread of their own."""

    def __init__(self, rig: Rig, every_seconds: float) -> None:
        self._rig, self._every_seconds = rig, every_seconds
        self.answered: list[Answered] = []
        self.pages: Counter[str] = Counter()
        self.failure: BaseException | None = None
        super().__init__({work.__name__: partial(self._guarded, work) for work in (self._send, self._look)})

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - for the main thread to tell
            self.failure = error
            self._over.set()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def studies(self) -> int:
        return len({one.study_instance_uid for one in self.answered})

    def _send(self) -> None:
        for number, seconds in enumerate(chain([0.0] * FIRST_AT_ONCE, repeat(self._every_seconds))):
            if self._over.wait(seconds):
                return
            folder = self._rig.folder / "images" / f"{number:05d}"
            files = new_study(folder, IMAGES_OF_EACH, first_phantom=number)
            answered = send_together(self._rig.port, files)
            if len(answered) != IMAGES_OF_EACH:
                raise RuntimeError(f"the listener has not taken study {number}")
            self.answered += map(Answered.of, answered)
            shutil.rmtree(folder)

    def _look(self) -> None:
        base = web_url(self._rig.data_dir)
        while not self._over.wait(PAGES_EVERY_SECONDS):
            newest = self.answered[-1].study_instance_uid if self.answered else None
            paths = ["/", "/overview/now", "/studies", "/models", "/jobs", "/metrics", "/health/ready"]
            for path in [*paths, *([f"/studies/{newest}"] if newest else [])]:
                status, _ = ask(base + path)
                self.pages["well" if status == 200 else f"{status} {path}"] += 1


def sample(rig: Rig, at: float) -> Iterator[Sample]:
    """Every process of the node, the PACS and the broker, and the database's connections."""
    for name, part in rig.parts.items():
        if part.process is None:
            continue
        if name == DATABASE:
            # Its processes come and go with connections; of it these are what a node could leak.
            yield Sample(round(at, 1), name, part.process.pid, connections=_connections(rig.database))
        elif name in (PACS, BROKER):
            yield next(iter(look(at, name, part.process.pid)))
        else:
            yield from look(at, name, part.process.pid)


def _connections(database: str) -> int:
    engine = create_engine(database, poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(text(_CONNECTIONS)).scalar_one()) - 1


def soak(rig: Rig, minutes: float, every_seconds: float, log: Path) -> tuple[list[Sample], Stream]:
    """Has the node work, and samples it."""
    begun, samples = time.monotonic(), []
    with Stream(rig, every_seconds) as stream, log.open("w", encoding="utf-8") as lines:
        while (at := time.monotonic() - begun) < minutes * 60 and not stream.is_over:
            now = list(sample(rig, at))
            samples += now
            for one in now:
                lines.write(json.dumps(one.as_json()) + "\n")
            lines.flush()
            _tell(
                f"{at / 60:5.1f} of {minutes:g} min  {stream.studies} studies, {stream.pages.total()} pages"
            )
            time.sleep(max(0.0, SAMPLED_EVERY_SECONDS - (time.monotonic() - begun - at)))
    if stream.failure:
        raise stream.failure
    return samples, stream


def _tell(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def report(
    asked: argparse.Namespace, judged: Sequence[Verdict], stream: Stream, broken: Sequence[str], load: float
) -> dict[str, Any]:
    """All that is to be kept of a run."""
    return {
        "command": f"python -m tests.faults.soak --minutes {asked.minutes:g} --every {asked.every:g}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(load, 1),
        "studies": stream.studies,
        "images": len(stream.answered),
        "pages": dict(sorted(stream.pages.items())),
        "broken_promises": list(broken),
        "verdicts": [verdict.as_json() for verdict in judged],
    }


def run(asked: argparse.Namespace, folder: Path) -> int:
    """The whole run; the exit code is returned."""
    parts = (*WORKING, RETRIEVER, WEB)
    with rig_up(folder, random.Random(1), with_parts=parts, armed=False, settings=_SETTINGS) as rig:
        samples, stream = soak(rig, asked.minutes, asked.every, folder / "samples.jsonl")
        load = os.getloadavg()[2]
        wait_until(lambda: at_rest(rig.database, stream.studies), _REST_SECONDS, "node at rest")
        broken = broken_promises(rig.database, rig.data_dir, rig.pacs, stream.answered)
    judged = verdicts(samples)
    told = report(asked, judged, stream, broken, load)
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if asked.plot:
        draw(samples, asked.plot)
    for verdict in judged:
        print(_line(verdict))
    print(f"{stream.studies} studies, {len(stream.answered)} images, pages {dict(stream.pages)}")
    print("\n".join(broken) or "nothing lost, nothing doubled")
    # A part that is late on a busy machine is not ready, and says so.
    well = set(stream.pages) <= {"well", "503 /health/ready"} and not broken
    well = well and all(verdict.is_flat for verdict in judged)
    return 0 if well else 1


def _line(verdict: Verdict) -> str:
    unit, scale = (" MB", 1e6) if verdict.figure == MEMORY else ("", 1.0)
    begun, ended, growth = (value / scale for value in (verdict.begun, verdict.ended, verdict.growth))
    figures = f"{begun:8.1f} → {ended:8.1f}, {growth:+.1f}{unit}"
    return f"{'flat ' if verdict.is_flat else 'GROWS'}  {verdict.process:14} {verdict.figure:12} {figures}"


def main(arguments: Sequence[str]) -> int:
    """Reads the command line; SIGTERM ends all as Ctrl-C does."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--every", type=float, default=3, help="seconds between studies (default 3)")
    parser.add_argument("--folder", type=Path, help="new; the node and its samples stay there")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--plot", type=Path, help="file for the plot, a PNG")
    asked = parser.parse_args(arguments)
    if asked.folder and asked.folder.exists():
        parser.error(f"{asked.folder} is there already")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if asked.folder:
            return run(asked, asked.folder.absolute())
        with tempfile.TemporaryDirectory(prefix="litegpt-soak-") as folder:
            return run(asked, Path(folder))
    except KeyboardInterrupt:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    except pytest.skip.Exception as missing:
        print(f"cannot run: {missing}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
