"""Counting what an order would retrieve, as a work beside the requests: the PACS answers when it likes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from service.errors import NeverAgain
from service.records.database import Records, utc_now
from service.retrieval.foresight import Foreseen, foresee
from service.retrieval.order import Order
from service.settings import Settings
from service.web.works import Work, Works
from service.wire.query import querying


@dataclass(slots=True, kw_only=True)
class Count(Work):
    """One of them.

    Attributes:
        order: What was ordered.
        asked: The same as it was posted, for a form that is to be changed.
        settings: By which the PACS is asked.
        foreseen: How far it is; ``None`` until the PACS has taken the association.
        job_id: The job that was made of it.
    """

    order: Order
    asked: tuple[tuple[str, str], ...]
    settings: Settings
    foreseen: Foreseen | None = None
    job_id: int | None = None
    _broken_off: threading.Event = field(default_factory=threading.Event)
    _placing: threading.Lock = field(default_factory=threading.Lock)

    def do(self, records: Records) -> None:
        """Asks for all, and counts."""
        with querying(self.settings, self.order.source) as query:
            foresee(records, query, self.order.filters, self._note)

    def break_off(self) -> None:
        """Ends it at the next answer of the PACS."""
        self._broken_off.set()

    def place(self, records: Records) -> int:
        """Makes the job of it, once however often it is asked; its id.

        Raises:
            NeverAgain: If the PACS did not answer.
        """
        with self._placing:
            if self.job_id is None:
                if self.error:
                    raise NeverAgain(f"No job was made: {self.error}")
                with records.writing() as session:
                    job_id = self.order.place(session, self.who, utc_now())
                self.job_id = job_id
        self.break_off()
        return self.job_id

    def _note(self, foreseen: Foreseen) -> None:
        self.foreseen = replace(foreseen)
        if self._broken_off.is_set():
            raise NeverAgain("broken off")

    def __str__(self) -> str:
        return f"{self.who} has studies of {self.order.source} counted"


class Counts(Works[Count]):
    """All of them. Whoever asks has one at a time, and sees no other: it may name a patient's id."""

    def begin(self, records: Records, work: Count) -> None:
        """Begins one; a former one of whoever asks is broken off.

        Raises:
            Busy: If as many go on as may.
        """
        for other in self.going_on():
            if other.who == work.who:
                other.break_off()
        super().begin(records, work)

    def find_of(self, who: str, count_id: str) -> Count | None:
        """The one of that id, unless it is long over or somebody else's."""
        found = self.find(count_id)
        return found if found is not None and found.who == who else None
