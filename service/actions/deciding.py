"""Ending conflicts: which of the objects that came under one SOP Instance UID is the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.actions.action import Tally
from service.actions.analysing import lock_studies
from service.archive import Archive
from service.completion import Completion
from service.errors import CannotUnderstand, DatasetMismatch
from service.peers import Destination
from service.received import examine
from service.records.conflicts import FIRST_KEPT, LATER_TAKEN, contenders_of, held_among, set_aside
from service.records.database import utc_now
from service.records.forwarding import UNFORWARDED, forward
from service.records.states import DeliveryState, InstanceState, StudyState
from service.records.succession import end_readings_of
from service.records.tables import Delivery, Instance, Study
from service.records.versions import reason_against

NO_CONFLICT: Final = "not in conflict"
UNREADABLE: Final = "nothing was done: the later file is gone, or cannot be read"


@dataclass(frozen=True, slots=True)
class KeepFirst:
    """Keeps what is used already, and sets aside what came later with other pixels. Nothing is read anew."""

    name: ClassVar[str] = "keep-first"

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        return {}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Ends every conflict of these studies."""
        now, tally = utc_now(), Counter[str]()
        studies = list(lock_studies(session, study_ids))
        contending = contenders_of(session, study_ids)
        for study in studies:
            for objects in contending[study.id].values():
                set_aside(held_among(objects), FIRST_KEPT, now)
            tally["the first kept" if contending[study.id] else NO_CONFLICT] += 1
        return tally


@dataclass(frozen=True, slots=True)
class TakeLater:
    """Takes what came last in the place of what is used, which is set aside; the study is read again.

    What reads the former is ended, and what it found is not sent any more; where that had been delivered, the
    new report names it as its predecessor. What was passed on of the former is passed on of the later, too.

    Attributes:
        completion: The node's rules.
        archive: Where the files are.
    """

    name: ClassVar[str] = "take-later"
    completion: Completion
    archive: Archive

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        return {}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Ends every conflict of these studies."""
        tally: Tally = Counter()
        studies = list(lock_studies(session, study_ids))
        contending = contenders_of(session, study_ids)
        for study in studies:
            tally[self._decide(session, study, list(contending[study.id].values()))] += 1
        return tally

    def _decide(self, session: Session, study: Study, conflicts: Sequence[list[Instance]]) -> str:
        if not conflicts:
            return NO_CONFLICT
        reasons = [self._reason_against(held_among(objects)[-1]) for objects in conflicts]
        if None in reasons:
            return UNREADABLE
        changes = [
            self._take(session, study, objects, reason or "")
            for objects, reason in zip(conflicts, reasons, strict=True)
        ]
        now = utc_now()
        if not any(changes):
            return "the later taken: none of them is to be read"
        study.last_eligible_at = now
        if study.state == StudyState.RECEIVING:
            return "the later taken: read when the study is complete"
        session.flush()
        self.completion.complete(session, study, now)
        return "the later taken: the study is read again"

    def _reason_against(self, later: Instance) -> str | None:
        """Why it is not to be read, or nothing; ``None`` where its file cannot say."""
        try:
            return reason_against(
                examine(self.archive.absolute(later.path), later.sop_class_uid, later.sop_instance_uid),
                self.completion.eligibility,
            )
        except (CannotUnderstand, DatasetMismatch, OSError):
            return None

    def _take(self, session: Session, study: Study, objects: Sequence[Instance], reason: str) -> bool:
        """Puts the last in the place of the others; returns whether that changes what is read."""
        later = held_among(objects)[-1]
        others = [one for one in objects if one is not later]
        were_read = any(one.eligible for one in others)
        set_aside(others, LATER_TAKEN, utc_now())
        later.state, later.eligible, later.reason = InstanceState.STORED, not reason, reason
        end_readings_of(session, [one.id for one in others])
        self._forward_instead(session, study, later, [one.id for one in others])
        return were_read or later.eligible

    def _forward_instead(
        self, session: Session, study: Study, later: Instance, other_ids: Sequence[int]
    ) -> None:
        rows = session.scalars(
            select(Delivery)
            .where(Delivery.instance_id.in_(other_ids), Delivery.state != DeliveryState.WITHDRAWN)
            .order_by(Delivery.id)
            .with_for_update()
        ).all()
        for row in rows:
            if row.state in UNFORWARDED:
                row.state, row.error = DeliveryState.WITHDRAWN, LATER_TAKEN
        forward(session, study, later, [Destination.parse(row.destination) for row in rows])
