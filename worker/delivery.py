"""Bringing results to their destinations: one association each, as many results on it as are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from math import inf

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
)
from service.metrics.processes import DeliveryMetrics, Outcome
from service.records import deliveries
from service.records.database import Records
from service.records.deliveries import DeliveryClaim
from service.records.retry import Retry
from service.rules.rulebook import Rulebook
from service.settings import Destination, Settings
from service.wire.sender import Connection, Sender, result_contexts
from worker.errors import CannotReport
from worker.substitution import replace

log = logging.getLogger(__name__)


class Courier:
    """Sends what is due, and writes down what each destination answered."""

    def __init__(self, settings: Settings, records: Records, archive: Archive) -> None:
        self._settings = settings
        self._records = records
        self._archive = archive
        self._sender = Sender(settings)
        self._retry = Retry.of(settings)
        self._lease = timedelta(seconds=settings.delivery_lease_seconds)
        self._rulebook = Rulebook(settings)
        self._metrics = DeliveryMetrics(self._configured())

    def drain(self, seconds: float = inf) -> bool:
        """Sends until nothing is due, or until the round in hand when ``seconds`` are over.

        Returns:
            Whether nothing is due any more.

        Raises:
            OutOfResources: If the records are away; what was claimed is due again when its lease ends.
        """
        deadline = time.monotonic() + seconds
        self._metrics.know(self._configured())
        while time.monotonic() < deadline:
            destinations = deliveries.destinations_due(self._records)
            if not destinations:
                return True
            for destination in destinations:
                self._serve(destination)
        return False

    def _configured(self) -> list[str]:
        return [to.address for to in self._rulebook.rules().destinations]

    def _serve(self, destination: Destination) -> None:
        claims = deliveries.claim(
            self._records, destination, limit=self._settings.delivery_batch_size, lease=self._lease
        )
        if not claims:
            return
        contexts = result_contexts([claim.sop_class_uid for claim in claims])
        try:
            with self._sender.associate(destination, contexts) as connection:
                for claim in claims:
                    self._send(connection, claim)
        except KindRefused as error:
            for claim in claims:
                self._replace(claim, error)
        except PeerRefused as error:
            self._refuse(claims, error)
        except PeerUnavailable as error:
            self._postpone(claims, error)

    def _send(self, connection: Connection, claim: DeliveryClaim) -> None:
        try:
            deliveries.begin(self._records, claim, self._lease)
            with self._metrics.sending(claim.destination):
                connection.store(self._archive.absolute(claim.path))
        except LeaseLost as error:
            log.info("study %s: not sent: %s", claim.study_instance_uid, error)
        except KindRefused as error:
            self._replace(claim, error)
        except NeverAgain as error:
            self._refuse([claim], error)
        except (PeerUnavailable, OutOfResources) as error:
            self._postpone([claim], error)
        else:
            self._write(claim, deliveries.sent, Outcome.SENT)

    def _replace(self, claim: DeliveryClaim, refusal: KindRefused) -> None:
        """Has something else delivered in the place of what the destination does not take, if it can be."""
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
            self._refuse([claim], CannotReport(f"{refusal}; {type(error).__name__}: {error}"))
        else:
            self._metrics.ended(claim.destination, Outcome.REPLACED)
            log.info("study %s: %s", claim.study_instance_uid, words)

    def _refuse(self, claims: Sequence[DeliveryClaim], error: NeverAgain) -> None:
        for claim in claims:
            self._write(claim, partial(deliveries.refused, error=str(error)), Outcome.REFUSED, error)

    def _postpone(self, claims: Sequence[DeliveryClaim], error: TryAgain) -> None:
        postpone = partial(deliveries.postpone, error=str(error), retry=self._retry)
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
        log.info("study %s: result of analysis %d %s", claim.study_instance_uid, claim.analysis_id, what)
        try:
            write(self._records, claim)
        except LeaseLost as error:
            # Whoever holds it now sends the same bytes under the same UID: nothing is lost or doubled.
            log.warning("study %s: %s", claim.study_instance_uid, error)
