"""Keeping what was claimed while it is worked on, or waits for its turn to be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta

from service.errors import LeaseLost, TryAgain
from service.records import analyses
from service.records.claims import Claim
from service.records.database import Records

log = logging.getLogger(__name__)


class Leases:
    """Those of a batch, renewed in the background from now on."""

    def __init__(self, records: Records, claims: Sequence[Claim], lease: timedelta) -> None:
        """Args:
        records: Where they are.
        claims: Whose.
        lease: How long each is; it is renewed three times as often.
        """
        self._records, self._claims, self._lease = records, claims, lease
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
        self._keeper.start()

    def let_go(self) -> None:
        """Renews them no more."""
        self._over.set()
        self._keeper.join()

    def _keep(self) -> None:
        while not self._over.wait(self._lease.total_seconds() / 3):
            for claim in self._claims:
                try:
                    analyses.renew(self._records, claim, self._lease)
                except (LeaseLost, TryAgain) as error:
                    # Finished already, superseded, or the database is away: who writes will find out.
                    log.info("lease of analysis %d not renewed: %s", claim.analysis_id, error)
