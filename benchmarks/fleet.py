"""How many studies a second several analysis workers read from one backlog, with a model that only sleeps.

    python -m benchmarks.fleet [--workers 1 2 4] [--studies 96] [--seconds 1] [--rounds 3]
                               [--database-url URL] [--out FILE]

Each number of workers gets a node of its own with the same backlog (SQLite, or your PostgreSQL, each time a
schema of its own). Everything but the model is real: claims, decoding in processes beside, Structured
Reports, the archive, the database. The model sleeps for a time for each batch, as a GPU would work: so what
is measured is what the rest costs it. The model's share is the time that it slept, of the time that the
worker worked: 100 % means that it never waited. Ctrl-C ends it and keeps what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url

from benchmarks import machine, markdown
from litegpt.engine import Read
from litegpt.findings import Reading
from service import queue
from service.archive import Archive
from service.records import analyses, conclusions
from service.records.database import Records
from service.records.tables import Instance
from service.settings import load_settings
from tests.images import make_radiograph
from tests.worker.conftest import SmallNode, small_node
from worker.analysis import Analyst
from worker.decoding import decoded

_SIZE: Final = 1024
"""Of each image's sides, in pixels."""
_BATCH: Final = 4
_COLUMNS: Final = (
    *("workers", "times one worker", "of linear", "model's share", "studies/s"),
    *("ms a claim", "ms a batch's writing", "CPU ms a study"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One backlog read.

    Attributes:
        seconds: From the first worker's begin to the last one's end.
        slept: Of all workers' models together.
        worked: Seconds of all workers, each from its begin to its end.
        claims, writes: Seconds of each claim, and of each batch's transaction.
        cpu_seconds: Of all workers, what decodes and makes results beside them left out.
    """

    round: int
    workers: int
    studies: int
    seconds: float
    slept: float
    worked: float
    claims: list[float]
    writes: list[float]
    cpu_seconds: float


class Sleeping:
    """A model on a GPU that is no part of this machine."""

    square_sizes = (224,)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.slept = 0.0

    def read_ahead(self, items: Sequence[Any], load: Callable[[Any], Any]) -> list[Read[Any]]:
        """Waits for the images, then for the GPU."""
        for item in items:
            load(item)
        time.sleep(self._seconds)
        self.slept += self._seconds
        return [Read(item, Reading(())) for item in items]


def work(folder: Path, seconds: float) -> None:
    """A worker's process: says that it is ready, waits for a line, works, and tells what that took."""
    settings = load_settings(data_dir=folder)
    records, archive = Records.open(settings), Archive(settings.data_dir)
    analyst, model = Analyst(settings, records, archive, queue.Bell(settings)), Sleeping(seconds)
    analyst.engines.load = lambda _: model  # type: ignore[assignment,return-value]
    with records.reading() as session:
        first = archive.absolute(session.scalars(select(Instance.path).limit(1)).one())
    decoded(analyst._decoding._isolation, first, (224,), settings.maximum_pixels)  # its process has begun
    claims, writes = _timed(Analyst, "_claimed"), _timed(conclusions, "finish_all")
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.time(), time.process_time()
    analyst.drain()
    told = {
        "begun": begun,
        "ended": time.time(),
        "slept": model.slept,
        "claims": claims,
        "writes": writes,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(json.dumps(told), flush=True)


def _timed(owner: Any, name: str) -> list[float]:
    """Seconds of each call of a module's or a class's function, from now on."""
    function, seconds = getattr(owner, name), []

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, timed)
    return seconds


@contextmanager
def node(folder: Path, studies: int, database_url: str | None) -> Iterator[SmallNode]:
    """A node whose backlog waits, its settings in the environment for its workers."""
    schema = f"fleet_{uuid4().hex}"
    variables = {"LITEGPT_ANALYSIS_BATCH_SIZE": str(_BATCH), "LITEGPT_DECODING_PROCESSES": "1"}
    if database_url:
        with create_engine(database_url).begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        url = make_url(database_url).update_query_dict({"options": f"-csearch_path={schema}"})
        variables["LITEGPT_DATABASE_URL"] = url.render_as_string(hide_password=False)
    os.environ |= variables
    small = small_node(folder)
    try:
        for _ in range(studies):
            small.take(make_radiograph(rows=_SIZE, columns=_SIZE))
        yield small
    finally:
        small.records.close()
        small.bell.close()
        for name in variables:
            del os.environ[name]
        if database_url:
            with create_engine(database_url).begin() as connection:
                connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


def measure(number: int, workers: int, studies: int, seconds: float, database_url: str | None) -> Sample:
    """One backlog, read by so many workers.

    Raises:
        ChildProcessError: If a worker did not end in order, or something was left.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        node(place := Path(folder) / "node", studies, database_url) as small,
    ):
        command = [sys.executable, "-m", "benchmarks.fleet", "--work", str(place), "--seconds", str(seconds)]
        fleet = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(workers)
        ]
        try:
            for worker in fleet:
                if worker.stdout is None or worker.stdout.readline() != "ready\n":
                    raise ChildProcessError("a worker did not begin")
            told = [json.loads(answer) for answer in _answers(fleet)]
        finally:
            for worker in fleet:
                worker.kill()
                worker.wait()
        with small.records.reading() as session:
            if left := analyses.count_due(session):
                raise ChildProcessError(f"{left} studies were left")
    return Sample(
        number,
        workers,
        studies,
        seconds=max(one["ended"] for one in told) - min(one["begun"] for one in told),
        slept=sum(one["slept"] for one in told),
        worked=sum(one["ended"] - one["begun"] for one in told),
        claims=[each for one in told for each in one["claims"]],
        writes=[each for one in told for each in one["writes"]],
        cpu_seconds=sum(one["cpu_seconds"] for one in told),
    )


def _answers(fleet: Sequence[subprocess.Popen[str]]) -> Iterator[str]:
    for worker in fleet:
        if worker.stdin is not None:
            worker.stdin.write("go\n")
            worker.stdin.flush()
    for worker in fleet:
        yield worker.stdout.readline() if worker.stdout is not None else ""


def rate(samples: Sequence[Sample], workers: int) -> float:
    """Studies a second: the median of the rounds."""
    return statistics.median(one.studies / one.seconds for one in samples if one.workers == workers)


def table(samples: Sequence[Sample]) -> str:
    """Ratios first, for people."""
    rows = []
    numbers = list(dict.fromkeys(one.workers for one in samples))
    for workers in numbers:
        own = [one for one in samples if one.workers == workers]
        times = rate(samples, workers) / rate(samples, numbers[0])
        rows.append(
            (
                str(workers),
                f"{times:.2f}",
                f"{times * numbers[0] / workers:.0%}",
                f"{statistics.median(one.slept / one.worked for one in own):.0%}",
                f"{rate(samples, workers):.2f}",
                f"{1000 * statistics.median(each for one in own for each in one.claims):.0f}",
                f"{1000 * statistics.median(each for one in own for each in one.writes):.0f}",
                f"{1000 * statistics.median(one.cpu_seconds / one.studies for one in own):.0f}",
            )
        )
    return markdown.table(_COLUMNS, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--studies", type=int, default=96, help="of one image each")
    parser.add_argument("--seconds", type=float, default=1.0, help=f"of the model for {_BATCH} studies")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database-url", help="PostgreSQL; by default SQLite")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        work(asked.work, asked.seconds)
        return 0
    samples: list[Sample] = []
    load = [machine.load_average()]
    interrupted = False
    try:
        for number in range(asked.rounds):
            for workers in asked.workers:
                print(f"round {number + 1} of {asked.rounds}: {workers} workers", file=sys.stderr)
                samples.append(measure(number, workers, asked.studies, asked.seconds, asked.database_url))
    except KeyboardInterrupt:
        interrupted = True
    print(f"\n{table(samples)}", file=sys.stderr)
    result = {
        "interrupted": interrupted,
        "load_average": [*load, machine.load_average()],
        "samples": [asdict(one) for one in samples],
    }
    machine.report("fleet", asked.out, result)
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
