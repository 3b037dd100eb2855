"""Sending again what a destination refused or lost, results and images, or results to one that is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from service.actions.action import Tally
from service.actions.analysing import lock_studies, newest_analyses
from service.peers import Destination
from service.records.database import utc_now
from service.records.forwarding import CORRECTED_SINCE
from service.records.states import CallState, DeliveryState, Priority
from service.records.tables import Delivery, Instance, Result, WebhookCall

PURGED: Final = "purged: the bytes are gone"
_ENDED_BADLY: Final = (DeliveryState.REFUSED, DeliveryState.REPLACED, DeliveryState.WITHDRAWN)
_ENDED_WELL: Final = (DeliveryState.SENT, DeliveryState.COMMITTED)


@dataclass(frozen=True, slots=True)
class Resend:
    """Makes results of the newest analyses, and images that are passed on, due again: the same bytes, as they
    are kept. Webhooks are told again, too, where no destination is named.

    Attributes:
        to: Only what goes there; a destination that had none of the results gets those that it wants.
        again: Whether what was delivered is sent once more, too.
        priority: How soon.
    """

    name: ClassVar[str] = "resend"
    to: Destination | None = None
    again: bool = False
    priority: Priority = Priority.ROUTINE

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        to = {"to": self.to.address} if self.to else {}
        return to | ({"again": True} if self.again else {}) | {"priority": str(self.priority)}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Makes them due; why one was refused stays written until the next attempt says something else."""
        lock_studies(session, study_ids)  # against a purge, which takes its locks in the same order
        tally = self._results(session, study_ids) + self._images(session, study_ids)
        return tally if self.to else tally + self._calls(session, study_ids)

    def _results(self, session: Session, study_ids: Sequence[int]) -> Tally:
        tally: Tally = Counter()
        of_newest = [analysis.id for analysis in newest_analyses(session, study_ids)]
        results = session.scalars(
            select(Result)
            .where(Result.analysis_id.in_(of_newest))
            .order_by(Result.id)
            .options(selectinload(Result.deliveries))
        )
        for result in results:
            if result.purged_at is not None:
                tally[PURGED] += 1
                continue
            for delivery in self._deliveries(result):
                tally[self._send(delivery)] += 1
        return tally

    def _images(self, session: Session, study_ids: Sequence[int]) -> Tally:
        tally: Tally = Counter()
        rows = session.scalars(
            select(Delivery)
            .join(Instance, Instance.id == Delivery.instance_id)
            .where(
                Instance.study_id.in_(study_ids),
                Instance.set_aside_at.is_(None),
                Delivery.error != CORRECTED_SINCE,
            )
            .order_by(Delivery.id)
            .options(joinedload(Delivery.instance))
        )
        for delivery in rows:
            if self.to is not None and delivery.destination != self.to.address:
                continue
            if delivery.instance is not None and delivery.instance.purged_at is not None:
                tally[PURGED] += 1
                continue
            tally[self._send(delivery)] += 1
        return tally

    def _calls(self, session: Session, study_ids: Sequence[int]) -> Tally:
        tally: Tally = Counter()
        of_newest = [analysis.id for analysis in newest_analyses(session, study_ids)]
        calls = select(WebhookCall).where(WebhookCall.analysis_id.in_(of_newest)).with_for_update()
        for call in session.scalars(calls):
            ended_well = call.state == CallState.SENT
            if call.state == CallState.DUE or (ended_well and not self.again):
                tally["told already" if ended_well else "due already"] += 1
                continue
            call.state, call.not_before = CallState.DUE, utc_now()
            call.created_at = utc_now()  # it is given up as long after this as any other
            tally["due again"] += 1
        return tally

    def _deliveries(self, result: Result) -> Iterator[Delivery]:
        there = {delivery.destination: delivery for delivery in result.deliveries}
        if self.to is None:
            yield from there.values()
        elif self.to.address in there:
            yield there[self.to.address]
        elif result.kind in self.to.results:
            new = Delivery(destination=self.to.address, state=DeliveryState.WITHDRAWN, not_before=utc_now())
            result.deliveries.append(new)
            yield new

    def _send(self, delivery: Delivery) -> str:
        if delivery.state in _ENDED_BADLY or (self.again and delivery.state in _ENDED_WELL):
            delivery.state, delivery.not_before = DeliveryState.DUE, utc_now()
            delivery.priority, delivery.commitment_failures = self.priority, 0
            return "due again"
        return "due already" if delivery.state == DeliveryState.DUE else "delivered already"
