"""Answering modalities that ask the node to commit: what is promised, and telling them so."""

from __future__ import annotations

import logging
from datetime import timedelta

from service.archive import Archive
from service.errors import LeaseLost, NeverAgain, PeerRefused, TryAgain
from service.records import safekeeping
from service.records.database import Records, utc_now
from service.records.retry import Retry
from service.records.safekeeping import Judged, RequestClaim
from service.settings import Settings
from service.wire.safekeeping import report
from worker.rounds import Rounds

log = logging.getLogger(__name__)


class Keeper(Rounds):
    """Answers what is due, and writes down what each modality said to that."""

    def __init__(self, settings: Settings, records: Records, archive: Archive) -> None:
        self._settings = settings
        self._records = records
        self._archive = archive
        self._modalities = {one.ae_title: one for one in settings.commitment_reports_to}
        self._retry = Retry.of(settings)
        self._lease = timedelta(seconds=settings.delivery_lease_seconds)
        self._keep = timedelta(days=settings.commit_for_days)

    def _round(self) -> bool:
        request = safekeeping.claim(self._records, self._lease)
        if request is None:
            return False
        self._answer(request)
        return True

    def _answer(self, request: RequestClaim) -> None:
        name = f"storage commitment for {request.ae_title}, transaction {request.transaction_uid}"
        try:
            log.info("%s: %s", name, self._attempt(request))
        except LeaseLost as error:
            log.warning("%s: %s", name, error)

    def _attempt(self, request: RequestClaim) -> str:
        """Judges and reports, and says what came of it."""
        try:
            judged = self._report(request)
        except LeaseLost:
            raise
        except NeverAgain as error:
            safekeeping.refused(self._records, request, str(error))
            return f"not reported: {error}"
        except TryAgain as error:
            safekeeping.postpone(self._records, request, str(error), self._retry)
            return f"report put off: {error}"
        safekeeping.told(self._records, request)
        failed = sum(1 for one in judged if one.failure)
        return f"kept for {self._settings.commit_for_days:g} days: {len(judged) - failed}, not kept: {failed}"

    def _report(self, request: RequestClaim) -> tuple[Judged, ...]:
        modality = self._modalities.get(request.ae_title)
        if modality is None or not self._keep:
            raise PeerRefused("the settings do not have it any more")
        if request.is_judged and utc_now() - request.created_at >= self._keep:
            raise PeerRefused(f"given up after {self._settings.commit_for_days:g} days")
        judged = safekeeping.judge(self._records, self._archive, request, self._keep)
        report(self._settings, modality, request.transaction_uid, judged)
        return judged
