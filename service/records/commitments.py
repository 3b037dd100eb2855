"""Asking destinations to commit to what they got (PS3.4 J): which objects, in which transaction, until when.

A delivery that waits for commitment is ``sent`` and has a time at which its destination is asked, or asked
again where no report has come. Asking writes the transaction and moves that time before anything goes over
the wire, so that whoever is killed in between leaves no more behind than a question to be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydicom.uid import generate_uid
from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select, union_all, update
from sqlalchemy.orm import Session, joinedload

from service.errors import NotThere
from service.peers import Destination
from service.records.database import Records, utc_now
from service.records.retry import Retry
from service.records.states import DeliveryState
from service.records.tables import Analysis, Commitment, Delivery, Instance, Result

log = logging.getLogger(__name__)

OBJECTS_AT_ONCE: Final = 100
"""How many objects one transaction asks for."""

_LONGEST_WAIT: Final = timedelta(days=1)

AWAITED: Final[ColumnElement[bool]] = and_(
    # By value: SQLite would take the index of states, and go through all that was ever sent.
    func.coalesce(Delivery.state, "") == DeliveryState.SENT.value,
    Delivery.commitment_due_at.is_not(None),
)
"""Of deliveries that wait for commitment."""

AWAITED_BY_VALUE: Final = case((AWAITED, 1), else_=0) == 1
"""The same out of sight of planners, which would go through all that wait for the sake of one study."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One question to one destination.

    Attributes:
        objects: (SOP Class UID, SOP Instance UID) of each object.
        asks: How often one of them was asked for, with this one.
    """

    uid: str
    destination: str
    objects: tuple[tuple[str, str], ...]
    asks: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a destination said of a transaction.

    Attributes:
        committed: SOP Instance UIDs that it commits to.
        failed: Those that it does not, with the Failure Reason (PS3.3 C.14.1.1).
    """

    transaction_uid: str
    committed: Set[str]
    failed: Mapping[str, int]


def destinations_due(records: Records) -> list[Destination]:
    """Those that are to be asked now."""
    with records.reading() as session:
        names = session.scalars(select(Delivery.destination).where(_is_due()).distinct()).all()
    return [Destination.parse(name) for name in sorted(names)]


def count_due(session: Session) -> int:
    """How many objects a destination is to be asked for now."""
    return session.scalar(select(func.count()).select_from(Delivery).where(_is_due())) or 0


@dataclass(frozen=True, slots=True)
class Awaited:
    """What waits for one destination to commit to it.

    Attributes:
        oldest: When the first of these objects was sent.
    """

    count: int
    oldest: datetime


def awaited(session: Session) -> dict[str, Awaited]:
    """What waits for commitment, by destination."""
    rows = (
        select(Delivery.destination, func.count(), func.min(Delivery.sent_at))
        .where(AWAITED)
        .group_by(Delivery.destination)
    )
    return {
        destination: Awaited(count, oldest)
        for destination, count, oldest in session.execute(rows)
        if oldest is not None  # which is so of all that were sent
    }


def uncommitted(*of_analyses: ColumnElement[bool]) -> Subquery:
    """For each study with results of these analyses, or images, that wait for commitment: since when."""
    results = (
        select(Analysis.study_id, Delivery.sent_at)
        .join(Result, Result.analysis_id == Analysis.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(AWAITED, *of_analyses)
    )
    images = (
        select(Instance.study_id, Delivery.sent_at)
        .join(Delivery, Delivery.instance_id == Instance.id)
        .where(AWAITED)
    )
    both = union_all(results, images).subquery()
    since = func.min(both.c.sent_at).label("due_since")
    return select(both.c.study_id, since).group_by(both.c.study_id).subquery("uncommitted")


def begin(records: Records, destination: Destination, timeout: timedelta) -> Transaction | None:
    """Begins a transaction for what is due at a destination; None where nothing is.

    Args:
        timeout: When nothing has come by then the objects are due again; twice as long each time.
    """
    now = utc_now()
    with records.writing() as session:
        rows = session.scalars(
            select(Delivery)
            .where(_is_due(), Delivery.destination == destination.address)
            .order_by(Delivery.commitment_due_at, Delivery.id)
            .limit(OBJECTS_AT_ONCE)
            .with_for_update(skip_locked=True, of=Delivery)
        ).all()
        if not rows:
            return None
        row = Commitment(
            transaction_uid=generate_uid(prefix=None), destination=destination.address, asked_at=now
        )
        session.add(row)
        for delivery in rows:
            delivery.commitment = row
            delivery.commitment_asks += 1
            longest = max(timeout, _LONGEST_WAIT)
            delivery.commitment_due_at = now + min(
                timeout * (1 << min(delivery.commitment_asks - 1, 16)), longest
            )
        objects = dict.fromkeys(
            (_object_of(one).sop_class_uid, _object_of(one).sop_instance_uid) for one in rows
        )
        asks = max(delivery.commitment_asks for delivery in rows)
        return Transaction(row.transaction_uid, row.destination, tuple(objects), asks)


def is_answered(records: Records, uid: str) -> bool:
    """Whether the report of a transaction has come, on whatever association."""
    with records.reading() as session:
        answered = select(Commitment.answered_at).where(Commitment.transaction_uid == uid)
        return session.scalar(answered) is not None


def put_off(records: Records, transaction: Transaction, error: str, retry: Retry) -> None:
    """Writes that a destination could not be asked, and is to be asked again in a while."""
    with records.writing() as session:
        _write_unanswered(session, transaction, error, utc_now() + retry.wait(transaction.asks))


def give_up(records: Records, transaction: Transaction, error: str) -> None:
    """Writes that a destination does not do this: what it was asked for stays ``sent``."""
    with records.writing() as session:
        _write_unanswered(session, transaction, error, None)


def ask_no_more(records: Records, destination: Destination) -> int:
    """Waits no longer for the commitment of a destination that is not to be asked; returns for how many."""
    with records.writing() as session:
        waiting = session.scalars(
            select(Delivery.id)
            .where(AWAITED, Delivery.destination == destination.address)
            .order_by(Delivery.id)
            .limit(OBJECTS_AT_ONCE * 10)
            .with_for_update(skip_locked=True)
        ).all()
        session.execute(update(Delivery).where(Delivery.id.in_(waiting)).values(commitment_due_at=None))
        return len(waiting)


def take(records: Records, report: Report, ae_title: str, retry: Retry) -> None:
    """Writes what a destination reports. A second report of the same changes nothing.

    What it does not commit to is sent again, ``retry.maximum_attempts`` times in all, then it is refused.
    A report that comes after the same was asked anew counts for what it commits to: the destination has it.

    Args:
        ae_title: Who reports.
        retry: When what failed is sent again.

    Raises:
        NotThere: If there is no such transaction with that destination.
    """
    with records.writing() as session:
        uid = Commitment.transaction_uid == report.transaction_uid
        row = session.scalars(select(Commitment).where(uid).with_for_update()).one_or_none()
        if row is None or Destination.parse(row.destination).ae_title != ae_title:
            raise NotThere(f"no transaction {report.transaction_uid} with {ae_title}")
        row.answered_at = row.answered_at or utc_now()
        for delivery in _asked_in(session, row, report.committed):
            delivery.state, delivery.error = DeliveryState.COMMITTED, ""
            delivery.commitment_due_at, delivery.commitment_id = None, row.id
            delivery.committed_at, delivery.commitment_failures = row.answered_at, 0
        for delivery in _asked_in(session, row, report.failed.keys() - report.committed):
            if delivery.commitment_id == row.id:
                _failed(delivery, report.failed[_object_of(delivery).sop_instance_uid], retry)


def _failed(delivery: Delivery, reason: int, retry: Retry) -> None:
    name = Destination.parse(delivery.destination).ae_title
    words = f"{name} does not commit to it: {failure(reason)}"
    delivery.commitment_due_at = None
    delivery.commitment_failures += 1
    if delivery.commitment_failures >= retry.maximum_attempts:
        delivery.state = DeliveryState.REFUSED
        delivery.error = f"{words}, {delivery.commitment_failures} times"
    else:
        delivery.state, delivery.error = DeliveryState.DUE, f"{words}; sent again"
        delivery.not_before = utc_now() + retry.wait(delivery.commitment_failures)
    log.warning("%s: %s", _object_of(delivery).sop_instance_uid, delivery.error)


_FAILURES: Final = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction",
    0x0213: "resource limitation",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


def failure(reason: int) -> str:
    """A Failure Reason for a person."""
    return f"{_FAILURES.get(reason, 'no known reason')} ({reason:04X})"


def _asked_in(session: Session, row: Commitment, sop_instance_uids: Set[str]) -> Sequence[Delivery]:
    """The deliveries of these objects that still wait, and that the destination had when it was asked."""
    uids = list(sop_instance_uids)
    results = select(Result.id).where(Result.sop_instance_uid.in_(uids))
    images = select(Instance.id).where(Instance.sop_instance_uid.in_(uids))
    return session.scalars(
        select(Delivery)
        .where(
            AWAITED,
            Delivery.destination == row.destination,
            or_(Delivery.commitment_id == row.id, Delivery.sent_at <= row.asked_at),
            or_(Delivery.result_id.in_(results), Delivery.instance_id.in_(images)),
        )
        .order_by(Delivery.id)
        .options(joinedload(Delivery.result), joinedload(Delivery.instance))
        .with_for_update(of=Delivery)
    ).all()


def _write_unanswered(
    session: Session, transaction: Transaction, error: str, due_at: datetime | None
) -> None:
    """Unless its report has come meanwhile, or another transaction has taken its place."""
    row = session.scalars(
        select(Commitment).where(Commitment.transaction_uid == transaction.uid).with_for_update()
    ).one()
    row.error = error
    if row.answered_at is None:
        of_it = update(Delivery).where(AWAITED, Delivery.commitment_id == row.id)
        session.execute(of_it.values(commitment_due_at=due_at))


def _object_of(delivery: Delivery) -> Result | Instance:
    of = delivery.result or delivery.instance
    if of is None:
        raise LookupError(f"delivery {delivery.id} is of nothing, which a constraint forbids")
    return of


def _is_due() -> Any:
    return and_(AWAITED, Delivery.commitment_due_at <= utc_now())
