"""Whose turn it is: what each batch asks for first, by priority and by model.

Today's patients come first, and their model is always loaded for them: the active one, or the one that a rule
names. What else there is, is the backlog. There a model goes on while it is loaded, since to load another
costs time; but not for ever: once it has had several times as long as loading took, the next one's backlog is
asked first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final

from litegpt.identity import ModelIdentity
from service.models.roster import KnownModel, Roster
from service.records.states import Priority

SHARE: Final = 10.0
"""For so many times as long as loading took, what is loaded stays, unless a patient waits for another."""


class Turns:
    """One worker's."""

    def __init__(self, backlog_every: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = cycle([Priority.STAT] * (backlog_every - 1) + [Priority.BACKLOG])
        self._clock = clock
        self._last: ModelIdentity | None = None
        self._stays_until = 0.0

    def loaded(self, model: KnownModel, seconds: float) -> None:
        """A model was loaded, which took so long."""
        self._stays_until = self._clock() + SHARE * seconds

    def read(self, model: KnownModel) -> None:
        """A model has read a batch."""
        self._last = model.identity

    def questions(
        self, roster: Roster, is_loaded: Callable[[KnownModel], bool]
    ) -> list[tuple[Priority, KnownModel]]:
        """What the next batch asks for, in turn, until something is due."""
        first = next(self._first)
        may_load = self._clock() >= self._stays_until
        asked = []
        for priority in (first, *(other for other in Priority if other is not first)):
            urgent = priority is not Priority.BACKLOG
            for model in self._in_turn(roster, urgent):
                needed = urgent and model != roster.shadow
                if needed or may_load or is_loaded(model):
                    asked.append((priority, model))
        return asked

    def _in_turn(self, roster: Roster, urgent: bool) -> Sequence[KnownModel]:
        """As they are asked: the active one first; in the backlog the one at work, until its time is up."""
        readers = roster.readers
        identities = [model.identity for model in readers]
        if urgent or self._last not in identities:
            return readers
        at = identities.index(self._last)
        stays = self._clock() < self._stays_until
        begin = at if stays else at + 1
        return [*readers[begin:], *readers[:begin]]
