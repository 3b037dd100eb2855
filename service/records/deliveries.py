"""Deliveries as work: claiming those due at one destination, and writing what the destination answered.

Results and images that are passed on are delivered alike.

A claim takes the row's next ``attempt`` number and moves ``not_before`` to the end of the lease; the row
stays ``due``. That a peer has stored an object is the truth, and is written even where the delivery was
withdrawn meanwhile; failures are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, bindparam, func, literal, select, union_all, update
from sqlalchemy.orm import Session

from service.peers import Destination
from service.records import peers_seen
from service.records.attempts import Ended, note_delivery
from service.records.conclusions import WrittenResult, result_row
from service.records.database import Records, utc_now
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import AttemptOutcome, DeliveryState, PeerKind
from service.records.tables import Analysis, Delivery, Instance, Result, Study

_STILL_DUE = Delivery.state == DeliveryState.DUE


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """One object that this worker may send to one destination until its lease ends.

    Attributes:
        looks: How many attempts before this one only looked whether the destination shows the study.
        analysis_id: What a result tells; 0 for an image that is passed on.
        transfer_syntax_uid: Of an image, which is sent in no other; empty for a result.
        digest: Of an image's dataset, or of a result's file.
        made_at: When the result was made, or the image came.
    """

    delivery_id: int
    destination: str
    attempt: int
    looks: int
    analysis_id: int
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    path: str
    made_at: datetime

    @property
    def is_image(self) -> bool:
        """Whether it is an image that is passed on."""
        return not self.analysis_id

    @property
    def failures(self) -> int:
        """How many attempts there have been that were to send it, this one included."""
        return self.attempt - self.looks


def destinations_due(records: Records) -> list[Destination]:
    """The destinations for which something waits now, but for those that are down and left alone."""
    with records.reading() as session:
        names = session.scalars(select(Delivery.destination).where(_is_due()).distinct()).all()
        resting = peers_seen.resting(session, PeerKind.DESTINATION, utc_now())
    return [Destination.parse(name) for name in sorted(names) if name not in resting]


_DELIVERIES: Any = Delivery.__table__
# Statements are written once and not for each delivery: putting one together costs as much as running it.
_DUE: Final = (
    select(Delivery.id, Delivery.destination, Delivery.attempt, Delivery.looks)
    .where(
        _STILL_DUE,
        Delivery.not_before <= bindparam("now"),
        Delivery.destination == bindparam("to"),
    )
    .order_by(Delivery.priority, Delivery.not_before, Delivery.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_TAKE: Final = (
    update(_DELIVERIES)
    .where(_DELIVERIES.c.id.in_(bindparam("deliveries", expanding=True)))
    .values(attempt=_DELIVERIES.c.attempt + 1, not_before=bindparam("until"))
)
_THESE: Final = Delivery.id.in_(bindparam("deliveries", expanding=True))
_OBJECTS: Final = union_all(
    select(
        *(Delivery.id.label("delivery_id"), Result.analysis_id, Study.study_instance_uid),
        *(Result.sop_class_uid, Result.sop_instance_uid, literal("").label("transfer_syntax_uid")),
        *(Result.digest, Result.path, Result.created_at.label("made_at")),
    )
    .join(Result, Result.id == Delivery.result_id)
    .join(Analysis, Analysis.id == Result.analysis_id)
    .join(Study, Study.id == Analysis.study_id)
    .where(_THESE),
    select(
        *(Delivery.id, literal(0), Study.study_instance_uid),
        *(Instance.sop_class_uid, Instance.sop_instance_uid, Instance.transfer_syntax_uid),
        *(Instance.digest, Instance.path, Instance.received_at),
    )
    .join(Instance, Instance.id == Delivery.instance_id)
    .join(Study, Study.id == Instance.study_id)
    .where(_THESE),
)
"""What is delivered, a result or an image that is passed on, by the names of a claim."""


def claim(records: Records, destination: Destination, *, limit: int, lease: timedelta) -> list[DeliveryClaim]:
    """Claims up to ``limit`` deliveries that are due at one destination: by priority, the oldest first."""
    now = utc_now()
    with records.writing() as session:
        due = {"now": now, "to": destination.address, "most": limit}
        rows = session.execute(_DUE, due).all()
        if not rows:
            return []
        these = {"deliveries": [row.id for row in rows]}
        session.execute(_TAKE, {**these, "until": now + lease})
        objects = {one["delivery_id"]: dict(one) for one in session.execute(_OBJECTS, these).mappings()}
        return [
            DeliveryClaim(
                destination=row.destination, attempt=row.attempt + 1, looks=row.looks, **objects[row.id]
            )
            for row in rows
        ]


def count_due(session: Session) -> int:
    """How many deliveries wait for a worker now."""
    return session.scalar(select(func.count()).select_from(Delivery).where(_is_due())) or 0


_OURS: Final = update(_DELIVERIES).where(
    _DELIVERIES.c.id == bindparam("delivery"), _DELIVERIES.c.attempt == bindparam("number")
)
_HOLD: Final = _OURS.where(_DELIVERIES.c.state == DeliveryState.DUE).values(not_before=bindparam("until"))
_SENT: Final = _OURS.values(
    state=DeliveryState.SENT,
    error="",
    sent_at=bindparam("now"),
    commitment_due_at=bindparam("asked_at"),
    commitment_asks=0,
    committed_at=None,
)


def begin(records: Records, claim: DeliveryClaim, lease: timedelta) -> None:
    """Makes sure, just before sending, that the delivery is still ours and still due, for another lease.

    Raises:
        LeaseLost: If it was withdrawn, or taken up by another worker.
    """
    with records.writing() as session:
        write_while_held(session, _HOLD, _lost(claim), {**_ours(claim), "until": utc_now() + lease})


def sent(
    records: Records,
    claim: DeliveryClaim,
    said: str = "",
    seconds: float | None = None,
    *,
    to_be_committed: bool = False,
) -> None:
    """Writes that the destination has stored the object.

    Args:
        records: Where.
        claim: What was sent.
        said: The status that came.
        seconds: How long that took.
        to_be_committed: Whether the destination is to be asked to commit to it.

    Raises:
        LeaseLost: If another worker has taken the delivery up since.
    """
    now = utc_now()
    values = {**_ours(claim), "now": now, "asked_at": now if to_be_committed else None}
    with records.writing() as session:
        write_while_held(session, _SENT, _lost(claim), values)
        ended = Ended(AttemptOutcome.SENT, said, seconds)
        note_delivery(session, claim.delivery_id, claim.attempt, ended)


def refused(records: Records, claim: DeliveryClaim, error: str, seconds: float | None = None) -> None:
    """Writes that the destination refused the object for good.

    Raises:
        LeaseLost: If another worker has taken the delivery up since.
    """
    with records.writing() as session:
        ended = Ended(AttemptOutcome.REFUSED, error, seconds)
        _write(session, claim, ended, _STILL_DUE, state=DeliveryState.REFUSED, error=error)


def replace(records: Records, claim: DeliveryClaim, results: Sequence[WrittenResult], why: str) -> None:
    """Writes that other results go to the destination instead; those that it gets anyhow are not sent twice.

    Raises:
        LeaseLost: If the delivery was withdrawn, or taken up by another worker.
    """
    with records.writing() as session:
        ended = Ended(AttemptOutcome.REPLACED, why)
        _write(session, claim, ended, _STILL_DUE, state=DeliveryState.REPLACED, error=why)
        replaced = session.get_one(Delivery, claim.delivery_id)
        to, priority = replaced.destination, replaced.priority
        for written in results:
            result = session.scalars(
                select(Result).where(Result.sop_instance_uid == written.sop_instance_uid)
            ).one_or_none()
            if result is None:
                result = result_row(claim.analysis_id, written)
                session.add(result)
            if to not in {delivery.destination for delivery in result.deliveries}:
                result.deliveries.append(Delivery(destination=to, priority=priority, not_before=utc_now()))


def postpone(
    records: Records,
    claim: DeliveryClaim,
    error: str,
    retry: Retry,
    seconds: float | None = None,
    outcome: AttemptOutcome = AttemptOutcome.TRY_AGAIN,
) -> None:
    """Puts a delivery back for a later attempt; a destination that is away is tried for ever.

    Args:
        records: Where.
        claim: What was not sent.
        error: Why.
        retry: After which waits.
        seconds: How long the attempt took.
        outcome: How far it came.

    Raises:
        LeaseLost: If another worker has taken the delivery up since.
    """
    with records.writing() as session:
        ended, at = Ended(outcome, error, seconds), utc_now() + retry.wait(claim.failures)
        _write(session, claim, ended, _STILL_DUE, error=error, not_before=at)


def look_again(records: Records, claim: DeliveryClaim, why: str, at: datetime) -> None:
    """Puts a result back until the destination may show its study. It is no failure.

    Raises:
        LeaseLost: If it was withdrawn, or another worker has taken the delivery up since.
    """
    with records.writing() as session:
        ended = Ended(AttemptOutcome.NOT_SHOWN, why)
        _write(session, claim, ended, _STILL_DUE, error=why, looks=claim.looks + 1, not_before=at)


def _is_due() -> Any:
    return and_(Delivery.state == DeliveryState.DUE, Delivery.not_before <= utc_now())


def _write(session: Session, claim: DeliveryClaim, ended: Ended, *conditions: Any, **values: object) -> None:
    ours = (Delivery.id == claim.delivery_id, Delivery.attempt == claim.attempt, *conditions)
    write_while_held(session, update(Delivery).where(*ours).values(**values), _lost(claim))
    note_delivery(session, claim.delivery_id, claim.attempt, ended)


def _ours(claim: DeliveryClaim) -> dict[str, object]:
    return {"delivery": claim.delivery_id, "number": claim.attempt}


def _lost(claim: DeliveryClaim) -> str:
    return f"delivery {claim.delivery_id}: attempt {claim.attempt} is over, or withdrawn"
