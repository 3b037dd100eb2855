"""One action on all studies that a selection means."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from sqlalchemy.orm import Session

from service.records.database import Records
from service.records.journal import write_down
from service.records.selection import Selection

log = logging.getLogger(__name__)

Tally = Counter[str]
"""How many studies (or, of deliveries, results) met which end, in words for people."""


class Action(Protocol):
    """What is done to a page of studies within one transaction."""

    name: ClassVar[str]

    def options(self) -> dict[str, Any]:
        """How it is asked, for the audit."""

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Does it, and says what came of it."""


@dataclass(slots=True)
class Course:
    """An action's way through the records.

    Attributes:
        records: Whose studies.
        who: Who asks, for the audit.
        dry_run: Whether to leave no trace, and to say what would come of it.
        report: Told after each page how many studies it had.
    """

    records: Records
    who: str
    dry_run: bool = False
    report: Callable[[int], None] = field(default=lambda _: None)

    def run(self, action: Action, selection: Selection) -> Tally:
        """Does it to every study that is meant; what is done stays done if it is broken off.

        Raises:
            NeverAgain: If a study that is named is not there.
            OutOfResources: If the database is away.
        """
        tally: Tally = Counter()
        try:
            for page in selection.pages(self.records):
                with self.records.rehearsing() if self.dry_run else self.records.writing() as session:
                    came = action.apply(session, page)
                tally += came
                self.report(len(page))
        finally:
            if tally and not self.dry_run:
                self._write_down(action, selection, tally)
        return tally

    def _write_down(self, action: Action, selection: Selection, tally: Tally) -> None:
        asked = {"studies": selection.as_json(), **action.options()}
        log.debug("%s by %s: %s", action.name, self.who, dict(tally))
        with self.records.writing() as session:
            write_down(session, self.who, action.name, tally, **asked)
