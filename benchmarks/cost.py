"""What the node's processes cost before any work: how soon each is ready, and its memory then; and the disk.

    python -m benchmarks.cost [--rounds 5] [--rest SECONDS] [--out FILE]

Each process is started alone, for a node that is new (PostgreSQL, Redis), and is ready when it answers:
a port that takes connections, a beat, or Celery's own "ready". Workers have the phantom model. In the same
rounds, dcmtk's storescp and Orthanc. Memory is looked at after a rest: what a process and those that
it started share with nobody (USS), and that with their part of what is shared (PSS). The disk is what each
role's packages take here. Ctrl-C ends it and keeps what was measured.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import machine, markdown
from benchmarks.installed import Installed, installed
from benchmarks.receivers import STORESCP, TUNED_ORTHANC, Receiver
from service.heartbeat import beat_file
from service.web.ports import running_ports
from tests.faults.rig import BROKER, DATABASE, RETRIEVER, WEB, Part, Rig
from tests.faults.steps import ANALYSIS, DELIVERY, LISTENER, SWEEPER
from tests.faults.vitals import look
from tests.ports import listens
from tests.processes import Process
from tests.services.postgres import private_server

GOAL_SECONDS: Final = 1.0
"""Until the listener takes associations."""

PARTS: Final = (LISTENER, SWEEPER, WEB, RETRIEVER, DELIVERY, ANALYSIS)
_READY_WITHIN_SECONDS: Final = 180.0
_LOOKS_EVERY_SECONDS: Final = 0.01
"""Tests, which look less often, would say a quarter of a second more."""
_ITS_PORTS: Final = {"web_port": "0", "web_host": "127.0.0.1"}
_COLUMNS: Final = (
    *("process", "ready after, s", "least–most", "CPU s by then"),
    *("memory alone, MB", "with its share, MB", "processes"),
)


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes:
        seconds: Until it was ready.
        cpu_seconds: That it and those that it started had worked by then.
        processes: How many they are.
    """

    round: int
    process: str
    seconds: float
    cpu_seconds: float
    uss_bytes: int
    pss_bytes: int
    processes: int


def measure(rounds: int, rest_seconds: float, folder: Path) -> Iterator[Start]:
    """Starts everybody, round after round."""
    peers = [receiver for receiver in (STORESCP, TUNED_ORTHANC) if receiver.is_here]
    with _node(folder) as rig:
        for number in range(rounds):
            for name in PARTS:
                yield _of_part(rig, name, number, rest_seconds)
            for peer in peers:
                yield _of_peer(peer, folder / "peer", number, rest_seconds)


@contextmanager
def _node(folder: Path) -> Iterator[Rig]:
    """A node whose servers run, and none of whose own parts."""
    with private_server() as server:
        rig = Rig(
            folder / "node", server, random.Random(0), with_parts=PARTS, armed=False, settings=_ITS_PORTS
        )
        try:
            for name in (DATABASE, BROKER):
                rig.parts[name].start_and_wait()
            if (migrated := rig.run_command("migrate")).returncode:
                raise ChildProcessError(migrated.stderr)
            yield rig
        finally:
            rig.stop()


def _of_part(rig: Rig, name: str, number: int, rest_seconds: float) -> Start:
    part = rig.parts[name]
    beat_file(rig.data_dir, name).unlink(missing_ok=True)
    begun = time.perf_counter()
    part.start()
    try:
        process = part.process
        if process is None:
            raise ChildProcessError(f"{name} was not started")
        process.wait_until(
            _readiness(rig, part), _READY_WITHIN_SECONDS, f"{name} ready", _LOOKS_EVERY_SECONDS
        )
        return _looked_at(number, name, process, time.perf_counter() - begun, rest_seconds)
    finally:
        part.stop()


def _readiness(rig: Rig, part: Part) -> Callable[[], bool]:
    if part.name == LISTENER:
        return lambda: listens(rig.port)
    if part.name == WEB:
        return lambda: any(map(listens, running_ports(rig.data_dir).values()))
    if part.name in (SWEEPER, RETRIEVER):
        return beat_file(rig.data_dir, part.name).exists
    return lambda: part.process is not None and " ready." in part.process.output()


def _of_peer(peer: Receiver, folder: Path, number: int, rest_seconds: float) -> Start:
    begun = time.perf_counter()
    with peer.receiving(folder) as (process, _):
        start = _looked_at(number, peer.name, process, time.perf_counter() - begun, rest_seconds)
    shutil.rmtree(folder)
    return start


def _looked_at(number: int, name: str, process: Process, seconds: float, rest_seconds: float) -> Start:
    cpu_seconds = _cpu_seconds(process)
    time.sleep(rest_seconds)
    family = list(look(0.0, name, process.pid))
    return Start(
        round=number,
        process=name,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        uss_bytes=sum(one.uss_bytes for one in family),
        pss_bytes=sum(one.pss_bytes for one in family),
        processes=len(family),
    )


def _cpu_seconds(process: Process) -> float:
    family = [psutil.Process(process.pid), *process.descendants()]
    times = [one.cpu_times() for one in family]
    return sum(float(one.user + one.system) for one in times)


def table(starts: Sequence[Start]) -> str:
    """For people."""
    rows = []
    for name in dict.fromkeys(one.process for one in starts):
        own = [one for one in starts if one.process == name]
        seconds = [one.seconds for one in own]
        cells = [
            name,
            f"{statistics.median(seconds):.2f}",
            f"{min(seconds):.2f}–{max(seconds):.2f}",
            f"{statistics.median(one.cpu_seconds for one in own):.2f}",
            f"{statistics.median(one.uss_bytes for one in own) / 1e6:.0f}",
            f"{statistics.median(one.pss_bytes for one in own) / 1e6:.0f}",
            f"{statistics.median(one.processes for one in own):.0f}",
        ]
        rows.append(cells)
    return markdown.table(_COLUMNS, rows)


def table_of_disk(roles: Sequence[Installed]) -> str:
    """For people."""
    rows = []
    for one in roles:
        largest = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in list(one.sizes.items())[:3])
        rows.append((one.role, len(one.sizes), f"{one.bytes / 1e9:.2f}", largest))
    return markdown.table(("role", "packages", "GB", "the largest"), rows)


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    starts: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="cost-") as name, suppress(KeyboardInterrupt):
        for start in measure(arguments.rounds, arguments.rest, Path(name)):
            starts.append(start)
            print(f"round {start.round}: {start.process} {start.seconds:.2f} s", file=sys.stderr)
    roles = installed()
    print(table(starts), table_of_disk(roles), sep="\n\n", file=sys.stderr)
    own = [start.seconds for start in starts if start.process == LISTENER]
    if own:
        words = "reached" if statistics.median(own) < GOAL_SECONDS else "NOT reached"
        print(f"a listener ready in under {GOAL_SECONDS:g} s {words}", file=sys.stderr)
    found: dict[str, Any] = {
        "starts": [asdict(start) for start in starts],
        "disk": [asdict(role) for role in roles],
    }
    machine.report("cost", arguments.out, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--rest", type=float, default=3.0, metavar="SECONDS", help="before memory is looked at"
    )
    parser.add_argument("--out", type=Path, help="JSON goes here, else to standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
