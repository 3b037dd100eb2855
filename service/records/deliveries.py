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
from typing import Any

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from service.peers import Destination
from service.records import peers_seen
from service.records.analyses import WrittenResult, result_row
from service.records.attempts import Ended, note_delivery
from service.records.database import Records, utc_now
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import AttemptOutcome, DeliveryState, PeerKind
from service.records.tables import Delivery, Instance, Result, Study

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


def claim(records: Records, destination: Destination, *, limit: int, lease: timedelta) -> list[DeliveryClaim]:
    """Claims up to ``limit`` deliveries that are due at one destination: by priority, the oldest first."""
    now = utc_now()
    with records.writing() as session:
        rows = session.scalars(
            select(Delivery)
            .where(_is_due(), Delivery.destination == destination.address)
            .order_by(Delivery.priority, Delivery.not_before, Delivery.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        claimed = []
        for row in rows:
            row.attempt += 1
            row.not_before = now + lease
            claimed.append(_claim_of(row))
        return claimed


def _claim_of(row: Delivery) -> DeliveryClaim:
    if row.result is not None:
        result = row.result
        return _claimed(
            row,
            result,
            result.analysis.study,
            analysis_id=result.analysis_id,
            transfer_syntax_uid="",
            made_at=result.created_at,
        )
    if row.instance is None:
        raise LookupError(f"delivery {row.id} is of nothing, which a constraint forbids")
    image = row.instance
    return _claimed(
        row,
        image,
        image.study,
        analysis_id=0,
        transfer_syntax_uid=image.transfer_syntax_uid,
        made_at=image.received_at,
    )


def _claimed(row: Delivery, of: Result | Instance, study: Study, **others: Any) -> DeliveryClaim:
    return DeliveryClaim(
        delivery_id=row.id,
        destination=row.destination,
        attempt=row.attempt,
        looks=row.looks,
        study_instance_uid=study.study_instance_uid,
        sop_class_uid=of.sop_class_uid,
        sop_instance_uid=of.sop_instance_uid,
        digest=of.digest,
        path=of.path,
        **others,
    )


def count_due(session: Session) -> int:
    """How many deliveries wait for a worker now."""
    return session.scalar(select(func.count()).select_from(Delivery).where(_is_due())) or 0


def begin(records: Records, claim: DeliveryClaim, lease: timedelta) -> None:
    """Makes sure, just before sending, that the delivery is still ours and still due, for another lease.

    Raises:
        LeaseLost: If it was withdrawn, or taken up by another worker.
    """
    with records.writing() as session:
        _write(session, claim, None, _STILL_DUE, not_before=utc_now() + lease)


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
    asked = {
        "commitment_due_at": now if to_be_committed else None,
        "commitment_asks": 0,
        "committed_at": None,
    }
    with records.writing() as session:
        ended = Ended(AttemptOutcome.SENT, said, seconds)
        _write(session, claim, ended, state=DeliveryState.SENT, error="", sent_at=now, **asked)


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


def _write(
    session: Session, claim: DeliveryClaim, ended: Ended | None, *conditions: Any, **values: object
) -> None:
    ours = (Delivery.id == claim.delivery_id, Delivery.attempt == claim.attempt, *conditions)
    lost = f"delivery {claim.delivery_id}: attempt {claim.attempt} is over, or withdrawn"
    write_while_held(session, update(Delivery).where(*ours).values(**values), lost)
    if ended is not None:
        note_delivery(session, claim.delivery_id, claim.attempt, ended)
