"""What a process takes of its machine, sampled from /proc, and whether that grows."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil
from scipy.stats import theilslopes

MEMORY: Final = "written_bytes"
"""Memory that a process has written and shares with nobody: what it could leak. No pages of libraries, which
are the process's own or not as others come and go."""

GROWTH_BYTES: Final = 5_000_000
GROWTH_PART: Final = 0.05
"""Memory that grows by less than either over the whole run is flat."""

WINDOWS: Final = 30
"""So many parts of the run are looked at, each a minute in a run of half an hour."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment.

    Attributes:
        at: Seconds since the run began.
        process: Its part, and which of the part's processes it is.
        written_bytes: What it has written of its memory and shares with nobody.
        uss_bytes, pss_bytes, rss_bytes: Its memory alone, with its share of what is shared, and with all.
        files: Open file descriptors.
        connections: To the database; for the database alone.
    """

    at: float
    process: str
    pid: int
    written_bytes: int = 0
    uss_bytes: int = 0
    pss_bytes: int = 0
    rss_bytes: int = 0
    threads: int = 0
    files: int = 0
    connections: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def look(at: float, part: str, pid: int) -> Iterable[Sample]:
    """A part's processes: itself, and those that it started, by age."""
    try:
        leader = psutil.Process(pid)
        family = [leader, *sorted(leader.children(recursive=True), key=lambda one: one.create_time())]
    except psutil.NoSuchProcess:
        return
    for number, process in enumerate(family):
        try:
            with process.oneshot():
                memory = process.memory_full_info()
                yield Sample(
                    at=round(at, 1),
                    process=part if number == 0 else f"{part} ›{number}",
                    pid=process.pid,
                    written_bytes=sum(one.private_dirty + one.swap for one in process.memory_maps()),
                    uss_bytes=memory.uss,
                    pss_bytes=memory.pss,
                    rss_bytes=memory.rss,
                    threads=process.num_threads(),
                    files=process.num_fds(),
                )
        except psutil.NoSuchProcess:
            continue


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one figure of one process.

    Attributes:
        begun, ended: The figure at the beginning and at the end of the last two thirds of the run.
        growth: By how much it grows in a run as long as this one: memory by the Theil–Sen slope of the
            windows' medians; a count by how far the windows' least, in the median, rises from the middle
            third of the run to the last, since a connection or a file that is open for a moment is no growth.
    """

    process: str
    figure: str
    begun: float
    ended: float
    growth: float

    @property
    def is_flat(self) -> bool:
        if self.figure == MEMORY:
            return self.growth < max(GROWTH_BYTES, GROWTH_PART * self.begun)
        return self.growth <= 0

    def as_json(self) -> dict[str, Any]:
        figures = {name: round(value, 1) for name, value in asdict(self).items() if isinstance(value, float)}
        return {**asdict(self), **figures, "flat": self.is_flat}


def verdicts(samples: Sequence[Sample]) -> list[Verdict]:
    """Of each process that ran in the last two thirds, each of its figures."""
    whole = max(sample.at for sample in samples)
    of_process: Mapping[str, list[Sample]] = by_process(samples)
    found = []
    for process, own in of_process.items():
        late = [sample for sample in own if sample.at >= whole / 3]
        if late and late[-1].at >= whole * (1 - 1 / WINDOWS):
            figures = (
                ("connections",) if any(one.connections for one in late) else (MEMORY, "threads", "files")
            )
            found += [_verdict(process, figure, late, whole) for figure in figures]
    return found


def by_process(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of each process, in order."""
    sorted_in: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        sorted_in[sample.process].append(sample)
    return dict(sorted_in)


def windows(samples: Iterable[Sample], figure: str, whole: float) -> dict[float, list[float]]:
    """A figure's values by the middle of each window of the run, in seconds."""
    seconds = whole / WINDOWS
    values: dict[float, list[float]] = defaultdict(list)
    for sample in samples:
        middle = (min(sample.at // seconds, WINDOWS - 1) + 0.5) * seconds
        values[middle].append(getattr(sample, figure))
    return dict(values)


def _verdict(process: str, figure: str, late: Sequence[Sample], whole: float) -> Verdict:
    of_window = windows(late, figure, whole)
    if figure == MEMORY:
        medians = {at: statistics.median(values) for at, values in of_window.items()}
        slope = theilslopes(list(medians.values()), list(medians)).slope if len(medians) > 1 else 0.0
        begun, *_, ended = [*medians.values(), *medians.values()]
        return Verdict(process, figure, begun, ended, float(slope) * whole)
    least = {at: min(values) for at, values in of_window.items()}
    middle, last = (
        statistics.median([value for at, value in least.items() if is_last == (at >= whole * 2 / 3)] or [0])
        for is_last in (False, True)
    )
    return Verdict(process, figure, middle, last, last - middle)
