"""How fast images are received, beside dcmtk's storescp, Orthanc and a plain pynetdicom handler.

    python -m benchmarks.ingest [--rounds 3] [--only NAME …] [--out FILE]

Each receiver is started anew for each workload, in a folder of its own, and gets the same files from
dcmtk's storescu: 40 of 10 MB or 200 of 0.5 MB over 1, 4 and 8 associations at once, and 20 or 60 with an
association each. Ratios are taken within a round. The limit beside is storescp, which syncs nothing, plus the
syncs of each image measured alone in the same round; so a ratio of 1.0 to it is an image received as fast as
dcmtk does and then made safe as fast as the disk can. Ctrl-C ends it and keeps what was measured.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import machine, markdown
from benchmarks.receivers import NODE, STORESCP, TUNED_ORTHANC, Receiver, receivers
from benchmarks.sending import BIG, SMALL, Workload, workloads
from benchmarks.syncing import sync_seconds
from tests.processes import Process

LIMIT: Final = "limit"
GOALS: Final = {BIG.name: 0.8, SMALL.name: 0.5}
"""Of the limit, by the form of the images."""
_HEADER_BYTES: Final = 1 << 11
"""A received file is its pixels and less than this: so databases and the like are not taken for one."""
_FORMS: Final = {"big": BIG, "small": SMALL}
_ASSOCIATIONS: Final = (1, 4, 8, 0)
_COLUMNS: Final = (
    *("workload", "receiver", "× storescp", "× tuned Orthanc", "of the limit"),
    *("images/s", "MB/s", "CPU ms an image", "memory MB"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One receiver, one workload, one round.

    Attributes:
        seconds: Of the senders, their start included.
        cpu_seconds: Of the receiver.
        memory_bytes: The most that the receiver's processes had; that of those that have ended is not seen.
    """

    round: int
    receiver: str
    workload: str
    seconds: float
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


def measure(receiver: Receiver, workload: Workload, number: int, folder: Path) -> Sample:
    """Sends a workload to a receiver.

    Raises:
        ChildProcessError: If it was not received, or not kept.
    """
    try:
        with receiver.receiving(folder) as (process, port):
            before = _cpu_seconds(process)
            seconds = workload.send(port)
            sample = Sample(
                number,
                receiver.name,
                workload.name,
                seconds,
                _cpu_seconds(process) - before,
                _peak_bytes(process),
            )
        kept = sum(0 <= size - workload.form.bytes < _HEADER_BYTES for size in _sizes(folder))
        if kept != len(workload.files):
            raise ChildProcessError(f"{receiver.name} has kept {kept} of {len(workload.files)}")
        return sample
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sizes(folder: Path) -> Iterable[int]:
    return (path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cpu_seconds(process: Process) -> float:
    """Of the receiver, of its processes, and of those that have ended."""
    times = [one.cpu_times() for one in _processes(process)]
    return float(sum(one.user + one.system + one.children_user + one.children_system for one in times))


def _peak_bytes(process: Process) -> int:
    return sum(_high_water_bytes(one.pid) for one in _processes(process))


def _processes(process: Process) -> list[psutil.Process]:
    """Those of the receiver that live."""
    first = psutil.Process(process.pid)
    return [first, *first.children(recursive=True)]


def _high_water_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def run(who: Sequence[Receiver], works: Sequence[Workload], rounds: int, folder: Path) -> Iterable[Sample]:
    """Measures everybody round after round, every other one in reverse order."""
    for number in range(rounds):
        for workload in works:
            for receiver in reversed(who) if number % 2 else who:
                yield measure(receiver, workload, number, folder / "receiver")
            syncs = sync_seconds(folder / "syncs", workload.files, workload.associations)
            shutil.rmtree(folder / "syncs")
            yield Sample(number, "syncs", workload.name, syncs)


def with_limits(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, and the limit of each round and workload."""
    seconds = {(one.round, one.workload, one.receiver): one.seconds for one in samples}
    limits = [
        Sample(number, LIMIT, workload, value + seconds[number, workload, "syncs"])
        for (number, workload, receiver), value in seconds.items()
        if receiver == STORESCP.name and (number, workload, "syncs") in seconds
    ]
    return [*samples, *limits]


def ratio(samples: Sequence[Sample], workload: str, receiver: str, to: str) -> float | None:
    """How many times as fast as another one: the median of the rounds' ratios."""
    by_round: dict[int, dict[str, float]] = {}
    for one in samples:
        if one.workload == workload:
            by_round.setdefault(one.round, {})[one.receiver] = one.seconds
    ratios = [row[to] / row[receiver] for row in by_round.values() if receiver in row and to in row]
    return statistics.median(ratios) if ratios else None


def table(samples: Sequence[Sample], works: Sequence[Workload]) -> str:
    """Ratios first, for people."""
    rows = []
    for workload in works:
        names = dict.fromkeys(one.receiver for one in samples if one.workload == workload.name)
        for name in names:
            own = [one for one in samples if (one.workload, one.receiver) == (workload.name, name)]
            rate = len(workload.files) / statistics.median(one.seconds for one in own)
            ratios = [
                ratio(samples, workload.name, name, to) for to in (STORESCP.name, TUNED_ORTHANC.name, LIMIT)
            ]
            cpu = 1000 * statistics.median(one.cpu_seconds for one in own) / len(workload.files)
            memory = statistics.median(one.memory_bytes for one in own) / 1e6
            cells = [
                workload.name,
                name,
                *("" if one is None else f"{one:.2f}" for one in ratios),
                f"{rate:.1f}",
                f"{rate * workload.form.bytes / 1e6:.0f}",
                f"{cpu:.1f}" if cpu else "",
                f"{memory:.0f}" if memory else "",
            ]
            rows.append(cells)
    return markdown.table(_COLUMNS, rows)


def goals(samples: Sequence[Sample], works: Sequence[Workload]) -> list[dict[str, Any]]:
    """What was set out to be reached, and what was."""
    found = []
    for workload in works:
        for to, wanted in ((TUNED_ORTHANC.name, 1.0), (LIMIT, GOALS[workload.form.name])):
            reached = ratio(samples, workload.name, NODE.name, to)
            if reached is not None:
                goal = {"workload": workload.name, "to": to, "wanted": wanted, "reached": round(reached, 3)}
                found.append({**goal, "met": reached >= wanted})
    return found


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    who = receivers(arguments.database_url)
    who = [one for one in who if not arguments.only or one.name in arguments.only]
    forms = [_FORMS[arguments.form]] if arguments.form else list(_FORMS.values())
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=arguments.folder) as name:
        folder = Path(name)
        works = list(workloads(folder / "sent", forms, arguments.associations))
        total = arguments.rounds * len(works) * (len(who) + 1)
        try:
            for sample in run(who, works, arguments.rounds, folder):
                samples.append(sample)
                now = f"{sample.workload}: {sample.receiver} {sample.seconds:.2f} s"
                print(f"\r{len(samples)}/{total}  {now:60}", end="", file=sys.stderr)
        except KeyboardInterrupt:
            print("\nended early", file=sys.stderr)
    samples = with_limits(samples)
    print("\n" + table(samples, works), file=sys.stderr)
    reached = goals(samples, works)
    for goal in reached:
        words = "reached" if goal["met"] else "NOT reached"
        print(
            f"{goal['workload']}: {goal['wanted']} x {goal['to']} {words}: {goal['reached']}", file=sys.stderr
        )
    found = {"goals": reached, "samples": [asdict(one) for one in samples]}
    machine.report("ingest", arguments.out, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="receivers by their names in the table")
    parser.add_argument("--form", choices=_FORMS, help="images of one size only")
    parser.add_argument(
        "--associations", type=int, nargs="+", default=_ASSOCIATIONS, metavar="N", help="0: one an image"
    )
    parser.add_argument("--database-url", help="the node on this empty PostgreSQL database, too")
    parser.add_argument("--folder", type=Path, help="where images are written and received")
    parser.add_argument("--out", type=Path, help="JSON goes here, else to standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
