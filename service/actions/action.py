"""One action on all studies that a selection means."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from sqlalchemy.orm import Session

from service.records.database import Records, utc_now
from service.records.selection import Selection
from service.records.tables import AuditEvent

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
                asked = {"studies": selection.as_json(), **action.options()}
                write_down(self.records, self.who, action.name, asked, tally)
        return tally


def write_down(
    records: Records, who: str, action: str, asked: Mapping[str, Any], outcome: Mapping[str, int]
) -> None:
    """Writes an audit event.

    Args:
        records: Where to.
        who: Who asked.
        action: For what.
        asked: Of which studies and how, without any patient's name.
        outcome: What came of it.
    """
    log.debug("%s by %s: %s", action, who, dict(outcome))
    event = AuditEvent(
        at=utc_now(), who=who, action=action, asked=json.dumps(asked), outcome=json.dumps(outcome)
    )
    with records.writing() as session:
        session.add(event)
