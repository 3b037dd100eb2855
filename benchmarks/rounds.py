"""Contenders measured in turn, round after round: what disturbs the machine disturbs all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import Answers, Contender, Tokens
from benchmarks.machine import load_average
from litegpt.radiograph import Radiograph, read_radiograph
from training.peak_memory import PeakMemory

BATCHES: Final = 16
"""So many batches make a measurement, or as many as there are images."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one round.

    Attributes:
        seconds: From radiographs in memory to answers.
        stages: Seconds of these by stage.
        memory_bytes: The most that was used meanwhile; None where nobody tells.
        tokens: Of the answers.
    """

    seconds: float
    stages: dict[str, float]
    memory_bytes: int | None
    tokens: Tokens


@dataclass(slots=True)
class Entry:
    """A contender, and what was measured of it.

    Attributes:
        contender: What is measured.
        radiographs: What it reads each time.
        rival: Whom it is compared with, if anyone.
        limits: Images/s that are possible at most, by the way they were worked out.
        flops: Of the matrix products for one image, as PyTorch counts them; 0 before the warm-up.
        samples: One a round.
        answers: What it said last.
    """

    contender: Contender
    radiographs: Sequence[Radiograph]
    rival: Entry | None = None
    limits: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many a measurement reads."""
        return len(self.radiographs)

    @property
    def images_per_second(self) -> list[float]:
        """By round."""
        return [self.images / sample.seconds for sample in self.samples]

    @property
    def tokens_per_second(self) -> list[float]:
        """By round."""
        return [sample.tokens.said / sample.seconds for sample in self.samples]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as its rival, by round; empty without one."""
        if self.rival is None:
            return []
        both = zip(self.images_per_second, self.rival.images_per_second, strict=False)
        return [own / other for own, other in both]

    @property
    def alike(self) -> tuple[int, int] | None:
        """How many of its images got the answers that its rival gives, and of how many; None without one."""
        if self.rival is None or not self.answers or not self.rival.answers:
            return None
        both = list(zip(self.answers, self.rival.answers, strict=False))
        return sum(own == other for own, other in both), len(both)


@dataclass(slots=True)
class Rounds:
    """All rounds over some contenders.

    Attributes:
        entries: Who takes part.
        files: The images' files.
        device: Whose memory is looked at.
        file_seconds: What reading and decoding an image's file took, by round.
        load: The machine's load average, by round.
    """

    entries: list[Entry]
    files: Sequence[Path]
    device: str
    file_seconds: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def measured(self) -> list[Entry]:
        """Those who have been measured."""
        return [entry for entry in self.entries if entry.samples]

    def warm_up(self) -> Iterator[None]:
        """Lets each contender read one batch that does not count, but whose FLOPs do; yields after each."""
        for entry in self.entries:
            images = entry.radiographs[: entry.contender.batch]
            with FlopCounterMode(display=False) as counter:
                entry.contender.read(images)
            entry.flops = counter.get_total_flops() / len(images)
            yield

    def run(self, rounds: int) -> Iterator[None]:
        """Measures; yields after each measurement, of which a round has ``len(entries)``."""
        memory = PeakMemory(self.device)
        for number in range(rounds):
            self.load.append(load_average())
            self.file_seconds.append(
                _seconds(lambda: [read_radiograph(file) for file in self.files]) / len(self.files)
            )
            for entry in reversed(self.entries) if number % 2 else self.entries:
                entry.samples.append(_sample(entry, memory))
                yield


def measured_images(batch: int, available: int) -> int:
    """Images of a measurement: whole batches, a few, one at least."""
    return batch * max(1, min(BATCHES, available // batch))


def _sample(entry: Entry, memory: PeakMemory) -> Sample:
    contender = entry.contender
    contender.stopwatch.seconds.clear()
    memory.reset()

    def read() -> None:
        entry.answers = contender.read(entry.radiographs)

    seconds = _seconds(read)
    stages = dict(contender.stopwatch.seconds)
    return Sample(seconds, stages, memory.bytes(), contender.tokens(entry.answers))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
