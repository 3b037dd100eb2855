"""Bringing results and images to their destinations: one association each, kept for what is due next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from math import inf

from service import queue
from service.archive import Archive
from service.errors import (
    KindRefused,
    LeaseLost,
    NeverAgain,
    NodeError,
    OutOfResources,
    PeerRefused,
    PeerUnavailable,
    TryAgain,
    in_words,
)
from service.metrics.processes import DeliveryMetrics, Outcome
from service.peers import Destination
from service.pulse import Pulse
from service.records import deliveries, peers_seen
from service.records.database import Records, utc_now
from service.records.deliveries import DeliveryClaim
from service.records.peers_seen import Contact
from service.records.retry import Retry
from service.records.states import AttemptOutcome, PeerKind
from service.rules.rulebook import Rulebook
from service.selftest.marks import is_selftest
from service.settings import Settings
from service.wire.association import Contexts
from service.wire.sender import Connection, image_contexts, result_contexts
from service.wire.standing import StandingAssociations
from worker.arrival import Arrivals, deadline_of
from worker.errors import CannotReport
from worker.rounds import Rounds
from worker.substitution import replace

log = logging.getLogger(__name__)


class Courier(Rounds):
    """Sends what is due, and writes down what each destination answered."""

    def __init__(
        self,
        settings: Settings,
        records: Records,
        archive: Archive,
        arrivals: Arrivals | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        """Args:
        settings, records, archive: The node's.
        arrivals: What is known of who offers C-FIND.
        pulse: Of the process, which is told what it does.
        """
        self._settings = settings
        self._records = records
        self._archive = archive
        self._pulse = pulse or Pulse(settings, queue.DELIVERY)
        self._associations = StandingAssociations(settings)
        self._retry = Retry.of(settings)
        self._lease = timedelta(seconds=settings.delivery_lease_seconds)
        self._arrivals = arrivals or Arrivals(settings)
        self._rulebook = Rulebook(settings)
        self._metrics = DeliveryMetrics(self._configured())

    def drain(self, seconds: float = inf) -> bool:
        """As any work in rounds; the destinations that may have come meanwhile are counted, too."""
        self._metrics.know(self._configured())
        return super().drain(seconds)

    def close(self) -> None:
        """Releases the associations that are kept for what comes next."""
        self._associations.close()

    def _round(self) -> bool:
        destinations = deliveries.destinations_due(self._records)
        for destination in destinations:
            self._serve(destination)
        return bool(destinations)

    def _configured(self) -> tuple[str, ...]:
        return self._rulebook.rules().addresses

    def _serve(self, destination: Destination) -> None:
        claims = deliveries.claim(
            self._records, destination, limit=self._settings.delivery_batch_size, lease=self._lease
        )
        begun, contact = time.monotonic(), Contact()
        with self._pulse.busy(len(claims)):
            try:
                claims = self._await_studies(destination, claims)
                if claims:
                    self._send_all(destination, claims, contact)
            except PeerRefused as error:
                contact.turned_away(error)
                self._refuse(claims, error, begun)
            except PeerUnavailable as error:
                contact.failed(error)
                self._postpone(claims, error, begun, AttemptOutcome.NO_ASSOCIATION)
        self._note(destination, contact)

    def _note(self, destination: Destination, contact: Contact) -> None:
        """Writes down whether the destination is up, once an association."""
        if contact:
            with self._records.writing() as session:
                peers_seen.note(session, PeerKind.DESTINATION, destination.address, contact, utc_now())

    def _await_studies(self, destination: Destination, claims: list[DeliveryClaim]) -> list[DeliveryClaim]:
        """Puts back the results whose study the destination does not show yet; returns the other claims."""
        if not self._settings.wait_for_study_seconds:
            return claims
        waiting = self._arrivals.still_missing(destination, claims)
        for claim in waiting.claims:
            at = waiting.look_at(claim, deadline_of(claim, self._settings))
            self._write(claim, partial(deliveries.look_again, why=waiting.why, at=at), Outcome.WAITING)
        return [claim for claim in claims if claim not in waiting.claims]

    def _send_all(self, destination: Destination, claims: Sequence[DeliveryClaim], contact: Contact) -> None:
        try:
            with self._associations.associate(destination, _contexts(claims)) as connection:
                for claim in claims:
                    self._send(connection, claim, contact)
        except KindRefused as error:
            contact.failed(error)
            for claim in claims:
                self._replace(claim, error)

    def _send(self, connection: Connection, claim: DeliveryClaim, contact: Contact) -> None:
        begun = time.monotonic()
        try:
            deliveries.begin(self._records, claim, self._lease)
            with self._metrics.sending(claim.destination):
                path = self._archive.absolute(claim.path)
                status = connection.forward(path, claim.digest) if claim.is_image else connection.store(path)
        except LeaseLost as error:
            log.info("study %s: not sent: %s", claim.study_instance_uid, error)
        except KindRefused as error:
            contact.failed(error)
            self._replace(claim, error)
        except NeverAgain as error:
            contact.failed(error)
            self._refuse([claim], error, begun)
        except (PeerUnavailable, OutOfResources) as error:
            contact.failed(error)
            self._postpone([claim], error, begun)
        else:
            contact.succeeded()
            write = partial(
                deliveries.sent,
                said=f"{status:04X}",
                seconds=_since(begun),
                to_be_committed=self._asks_for(claim),
            )
            self._write(claim, write, Outcome.SENT)

    def _asks_for(self, claim: DeliveryClaim) -> bool:
        """Whether the destination is to commit to it; a self-test's study is removed again."""
        asked = claim.destination in self._settings.commitment_addresses
        return asked and not is_selftest(claim.study_instance_uid)

    def _replace(self, claim: DeliveryClaim, refusal: KindRefused) -> None:
        """Has something else delivered in the place of what the destination does not take, if it can be."""
        if claim.is_image:  # which goes as it came, or not at all
            self._refuse([claim], refusal)
            return
        try:
            words = replace(claim, refusal, self._settings, self._records, self._archive)
        except LeaseLost as error:
            log.info("study %s: not replaced: %s", claim.study_instance_uid, error)
        except TryAgain as error:
            self._postpone([claim], error)
        except NeverAgain as error:
            self._refuse([claim], error)
        except Exception as error:  # the task's edge: a fault of ours, which must not hold the others up
            log.exception("what replaces a result of study %s", claim.study_instance_uid)
            self._refuse([claim], CannotReport(f"{refusal}; {in_words(error)}"))
        else:
            self._metrics.ended(claim.destination, Outcome.REPLACED)
            log.info("study %s: %s", claim.study_instance_uid, words)

    def _refuse(self, claims: Sequence[DeliveryClaim], error: NeverAgain, begun: float | None = None) -> None:
        refused = partial(deliveries.refused, error=str(error), seconds=_since(begun))
        for claim in claims:
            self._write(claim, refused, Outcome.REFUSED, error)

    def _postpone(
        self,
        claims: Sequence[DeliveryClaim],
        error: TryAgain,
        begun: float | None = None,
        outcome: AttemptOutcome = AttemptOutcome.TRY_AGAIN,
    ) -> None:
        postpone = partial(
            deliveries.postpone,
            error=str(error),
            retry=self._retry,
            seconds=_since(begun),
            outcome=outcome,
        )
        for claim in claims:
            self._write(claim, postpone, Outcome.POSTPONED, error)

    def _write(
        self,
        claim: DeliveryClaim,
        write: Callable[[Records, DeliveryClaim], None],
        outcome: Outcome,
        error: NodeError | None = None,
    ) -> None:
        self._metrics.ended(claim.destination, outcome)
        what = f"{outcome}: {error}" if error else outcome
        of = (
            f"image {claim.sop_instance_uid}" if claim.is_image else f"result of analysis {claim.analysis_id}"
        )
        log.info("study %s: %s %s", claim.study_instance_uid, of, what)
        try:
            write(self._records, claim)
        except LeaseLost as error:
            # Whoever holds it now sends the same bytes under the same UID: nothing is lost or doubled.
            log.warning("study %s: %s", claim.study_instance_uid, error)


def _since(begun: float | None) -> float | None:
    """Seconds of an attempt that began then."""
    return None if begun is None else time.monotonic() - begun


def _contexts(claims: Sequence[DeliveryClaim]) -> Contexts:
    images = [(claim.sop_class_uid, claim.transfer_syntax_uid) for claim in claims if claim.is_image]
    results = [claim.sop_class_uid for claim in claims if not claim.is_image]
    return [*result_contexts(results), *image_contexts(images)]
