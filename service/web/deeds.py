"""An action on many studies as a work beside the requests; a rehearsal first."""

from __future__ import annotations

from dataclasses import dataclass

from service.actions.action import Action, Course, Tally
from service.records.database import Records
from service.records.selection import Selection
from service.web.works import Work


@dataclass(slots=True, kw_only=True)
class Deed(Work):
    """One of them.

    Attributes:
        action, selection: What, and of which studies.
        asked: The selection and the options as they were posted, to post them again after the rehearsal.
        rehearsal: Whether it leaves no trace.
        studies: How many it has come past.
        tally: What came of it; ``None`` while it goes on, or where it broke off.
    """

    action: Action
    selection: Selection
    asked: tuple[tuple[str, str], ...]
    rehearsal: bool
    studies: int = 0
    tally: Tally | None = None

    def do(self, records: Records) -> None:
        """Goes through the studies."""
        self.tally = Course(records, self.who, self.rehearsal, self._note).run(self.action, self.selection)

    def _note(self, studies: int) -> None:
        self.studies += studies

    def __str__(self) -> str:
        return f"{self.who} has another {self.action.name} going on, {self.studies:,} studies so far"
