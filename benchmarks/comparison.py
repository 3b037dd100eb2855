"""One model, those who run it, the limits they have, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from torch import nn

from benchmarks.roofline import Limit, Peak
from benchmarks.rounds import Entry, Rounds


@dataclass(frozen=True, slots=True)
class Goal:
    """What was set out to be reached.

    Attributes:
        text: In words.
        wanted: At least this.
        reached: By the medians.
    """

    text: str
    wanted: float
    reached: float

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.reached >= self.wanted


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model and those who run it.

    Attributes:
        model: In words.
        precision: Of the weights.
        parameters: How many.
        rounds: Who is measured.
        peak: What the device attains.
        peak_source: Where that is known from.
        same_answers: Whether all should give the same answers.
        published_limits: By sequences at once, the limit of the published way.
        judge: Compares what was measured with the goals.
    """

    model: str
    precision: str
    parameters: int
    rounds: Rounds
    peak: Peak
    peak_source: str
    same_answers: bool
    judge: Callable[[Sequence[Entry]], list[Goal]]
    published_limits: dict[int, Limit] = field(default_factory=dict)

    def goals(self) -> list[Goal]:
        """Those that can be judged by what was measured so far."""
        return self.judge(self.rounds.measured)


def parameters_of(module: nn.Module) -> int:
    """How many a module has; those that are used twice count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def fastest(entries: Sequence[Entry]) -> Entry:
    """The one with the highest median of images/s."""
    return max(entries, key=lambda entry: median(entry.images_per_second))
