"""The sums of an import: what became of the files, in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from service.importing.importer import Imported, Outcome

LISTED: Final = 20
REASONS: Final = 50
OTHER_REASONS: Final = "other reasons"
"""Reasons quote headers, which may say anything: what comes after the first 50 is summed up."""

_TROUBLES: Final = (Outcome.CONFLICT, Outcome.UNREADABLE)


@dataclass(slots=True)
class Tally:
    """Counts of all files.

    Attributes:
        list_all: Whether every file that was not taken is to be listed, or the first troubles of each kind.
        reasons: Why images that were taken are not to be analysed.
        size_bytes: Of what was taken.
    """

    list_all: bool = False
    counts: Counter[Outcome] = field(default_factory=Counter)
    listed: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0

    def add(self, one: Imported) -> bool:
        """Counts a file and says whether to list it."""
        self.counts[one.outcome] += 1
        self.size_bytes += one.size_bytes
        if one.outcome is Outcome.TAKEN:
            self._add_reason(one.reason)
            return False
        is_trouble = one.outcome in _TROUBLES and self.listed[one.outcome] < LISTED
        if not (self.list_all or is_trouble):
            return False
        self.listed[one.outcome] += 1
        return True

    def _add_reason(self, reason: str) -> None:
        if reason:
            is_new = reason not in self.reasons and len(self.reasons) >= REASONS
            self.reasons[OTHER_REASONS if is_new else reason] += 1

    @property
    def has_trouble(self) -> bool:
        """Whether something was found that is not in the node now."""
        return self.counts[Outcome.UNREADABLE] > 0

    @property
    def not_listed(self) -> dict[Outcome, int]:
        """How many troubles of each kind were not listed."""
        more = {outcome: self.counts[outcome] - self.listed[outcome] for outcome in _TROUBLES}
        return {outcome: number for outcome, number in more.items() if number}
