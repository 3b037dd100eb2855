"""Telling analyses to webhooks: one POST each, until it is taken, refused, or too old."""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from typing import Final

from service import queue
from service.archive import Archive
from service.errors import LeaseLost, NeverAgain, PeerRefused, TryAgain
from service.pulse import Pulse
from service.records import peers_seen, webhook_calls
from service.records.database import Records, utc_now
from service.records.peers_seen import Contact
from service.records.retry import Retry
from service.records.states import PeerKind
from service.records.webhook_calls import CallClaim
from service.settings import Settings
from service.webhooks.message import message_of
from service.webhooks.posting import ANSWER_SECONDS, CONNECT_SECONDS, post
from worker.rounds import Rounds

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=4 * (CONNECT_SECONDS + ANSWER_SECONDS))


class Caller(Rounds):
    """Posts what is due, and writes down what each receiver answered."""

    def __init__(
        self, settings: Settings, records: Records, archive: Archive, pulse: Pulse | None = None
    ) -> None:
        """Args:
        settings, records, archive: The node's.
        pulse: Of the process, which is told what it does.
        """
        self._pulse = pulse or Pulse(settings, queue.DELIVERY)
        self._webhooks = {webhook.name: webhook for webhook in settings.webhooks}
        self._records = records
        self._archive = archive
        self._retry = Retry.of(settings)
        self._longest = timedelta(days=settings.webhook_days)

    def _round(self) -> bool:
        # One after the other: a receiver that hangs must not use up the leases of those behind it.
        claims = webhook_calls.claim(self._records, limit=1, lease=LEASE)
        for claim in claims:
            self._make(claim)
        return bool(claims)

    def _make(self, claim: CallClaim) -> None:
        contact = Contact()
        try:
            with self._pulse.busy(1):
                outcome = self._attempt(claim, contact)
        except LeaseLost as error:
            outcome = f"not told: {error}"
        log.info(
            "study %s: webhook %s of analysis %d %s",
            claim.study_instance_uid,
            claim.webhook,
            claim.analysis_id,
            outcome,
        )
        if contact and claim.webhook in self._webhooks:
            with self._records.writing() as session:
                peers_seen.note(session, PeerKind.WEBHOOK, claim.webhook, contact, utc_now())

    def _attempt(self, claim: CallClaim, contact: Contact) -> str:
        """Makes the call, and says what came of it."""
        begun = time.monotonic()
        try:
            status = self._post(claim)
        except LeaseLost:
            raise
        except NeverAgain as error:
            contact.failed(error)
            webhook_calls.refused(self._records, claim, str(error), time.monotonic() - begun)
            return f"refused: {error}"
        except TryAgain as error:
            contact.failed(error)
            return self._put_off(claim, error, time.monotonic() - begun)
        except Exception as error:  # the task's edge: a fault of ours, which must not hold the others up
            log.exception("webhook %s of analysis %d", claim.webhook, claim.analysis_id)
            webhook_calls.refused(self._records, claim, f"a fault of the node: {type(error).__name__}")
            return "refused: a fault of the node"
        contact.succeeded()
        webhook_calls.sent(self._records, claim, str(status), time.monotonic() - begun)
        return f"told: {status}"

    def _post(self, claim: CallClaim) -> int:
        webhook = self._webhooks.get(claim.webhook)
        if webhook is None:
            raise PeerRefused(f"no webhook {claim.webhook} is set up")
        body = message_of(self._records, self._archive, claim.analysis_id, tell_patient=webhook.tell_patient)
        webhook_calls.begin(self._records, claim, hashlib.sha256(body).hexdigest(), LEASE)
        return post(webhook, claim.message_id, body)

    def _put_off(self, claim: CallClaim, error: TryAgain, seconds: float) -> str:
        if utc_now() - claim.created_at >= self._longest:
            words = f"given up after {self._longest.total_seconds() / 86400:g} days: {error}"
            webhook_calls.refused(self._records, claim, words, seconds)
            return words
        webhook_calls.postpone(self._records, claim, str(error), self._retry, seconds)
        return f"put off: {error}"
