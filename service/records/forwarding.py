"""Images that are passed on: a delivery of each to each destination, beside the deliveries of results.

Every object that a peer sends of its own accord is passed on, whether it is analysed or not, as the bytes
that came. Held back are: what conflicts with an earlier one (nobody but an admin can tell which is right),
our own results that come back, the study of a self-test, and what the node has fetched or imported, since
others hold that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Select, case, exists, func, select
from sqlalchemy.orm import Session

from service.peers import Destination
from service.records.database import utc_now
from service.records.states import DeliveryState, InstanceState
from service.records.tables import Delivery, Instance, Result, Study
from service.rules.facts import Facts
from service.rules.rulebook import Rulebook
from service.selftest.marks import is_selftest

UNFORWARDED: Final = (DeliveryState.DUE, DeliveryState.REFUSED)
"""While an image's delivery is in one of these, the node may be the only one that holds the image."""

CORRECTED_SINCE: Final = "its corrected header goes instead"


def _nowhere(_: Facts) -> tuple[Destination, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Where what is sent to the node is passed on to.

    Attributes:
        destinations_of: Where an image is passed on to of which rules see this.
    """

    destinations_of: Callable[[Facts], Sequence[Destination]] = _nowhere

    @classmethod
    def of(cls, rulebook: Rulebook) -> Self:
        """As the settings and the rules that are in force ask for."""
        return cls(lambda image: rulebook.rules().for_image(image)[1])


def forward(session: Session, study: Study, instance: Instance, to: Iterable[Destination]) -> int:
    """Has an image delivered to destinations, within the caller's transaction, unless it is to be held back.

    A destination that sent it, or has a delivery of it already, gets none.

    Returns:
        How many deliveries that makes.
    """
    if not _may_go(session, study, instance):
        return 0
    there = {delivery.destination for delivery in instance.deliveries}
    new = {
        destination.address
        for destination in to
        if not came_from(destination, instance.calling_ae_title) and destination.address not in there
    }
    instance.deliveries += [
        Delivery(destination=address, priority=study.priority, not_before=utc_now())
        for address in sorted(new)
    ]
    return len(new)


def came_from(destination: Destination, calling_ae_title: str) -> bool:
    """Whether an image came from there: it is never passed back, nor to who moves it without saying so."""
    return destination.ae_title == calling_ae_title


def _may_go(session: Session, study: Study, instance: Instance) -> bool:
    held = instance.state == InstanceState.CONFLICT or instance.set_aside_at is not None
    if held or is_selftest(study.study_instance_uid):
        return False
    ours = select(Result.id).where(Result.sop_instance_uid == instance.sop_instance_uid)
    return session.scalar(ours) is None


def withdraw_earlier(session: Session, study: Study, instance: Instance) -> None:
    """Gives up what of an image's earlier versions has not arrived: it could arrive after its correction.

    Only where the correction goes to the same destination, or comes from it.
    """
    session.flush()
    goes_to = {delivery.destination for delivery in instance.deliveries}
    earlier = session.scalars(
        select(Delivery)
        .join(Instance, Instance.id == Delivery.instance_id)
        .where(
            Instance.study_id == study.id,
            Instance.sop_instance_uid == instance.sop_instance_uid,
            Instance.id != instance.id,
            Delivery.state.in_(UNFORWARDED),
        )
        .order_by(Delivery.id)
        .with_for_update(of=Delivery)
    )
    for delivery in earlier:
        to = Destination.parse(delivery.destination)
        if to.address in goes_to or came_from(to, instance.calling_ae_title):
            delivery.state, delivery.error = DeliveryState.WITHDRAWN, CORRECTED_SINCE


def withdraw_forwards(session: Session, study_ids: Sequence[int], why: str) -> set[int]:
    """Gives up the images of studies that are not passed on yet; returns which of the studies had such."""
    rows = session.execute(
        select(Delivery, Instance.study_id)
        .join(Instance, Instance.id == Delivery.instance_id)
        .where(Instance.study_id.in_(study_ids), Delivery.state.in_(UNFORWARDED))
        .order_by(Delivery.id)
        .with_for_update(of=Delivery)
    ).all()
    for delivery, _ in rows:
        delivery.state, delivery.error = DeliveryState.WITHDRAWN, why
    return {study_id for _, study_id in rows}


def has_forward(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether ``Study`` has an image with a delivery of which these conditions hold."""
    return exists().where(Instance.study_id == Study.id, Delivery.instance_id == Instance.id, *conditions)


def studies_with_forward(state: DeliveryState) -> Select[int]:
    """The ids of studies with an image whose delivery is in that state."""
    return (
        select(Instance.study_id)
        .join(Delivery, Delivery.instance_id == Instance.id)
        .where(Delivery.state == state)
    )


def unforwarded() -> Any:
    """For each study with images not passed on yet: since when one is due, and whether one was refused."""
    due_since = func.min(case((Delivery.state == DeliveryState.DUE, Instance.received_at)))
    refused = func.max(case((Delivery.state == DeliveryState.REFUSED, 1), else_=0))
    return (
        select(Instance.study_id, due_since.label("due_since"), refused.label("refused"))
        .join(Delivery, Delivery.instance_id == Instance.id)
        .where(Delivery.state.in_(UNFORWARDED))
        .group_by(Instance.study_id)
        .subquery("unforwarded")
    )


def oldest_due(session: Session) -> dict[str, datetime]:
    """When the oldest image that is due came, by destination."""
    rows = session.execute(
        select(Delivery.destination, func.min(Instance.received_at))
        .join(Instance, Instance.id == Delivery.instance_id)
        .where(Delivery.state == DeliveryState.DUE)
        .group_by(Delivery.destination)
    )
    return {row[0]: row[1] for row in rows}
