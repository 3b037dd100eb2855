"""Waiting until a destination shows a study: a result that comes before its images may be filed nowhere.

A destination that offers no C-FIND is sent to at once, and one that cannot answer is waited for no longer
than one that has not got the study.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Final

from service.errors import NotOffered, PeerFailed, PeerRefused, TooManyMatches
from service.peers import Destination
from service.records.database import utc_now
from service.records.deliveries import DeliveryClaim
from service.selftest.marks import is_selftest
from service.settings import Settings
from service.wire.query import querying

log = logging.getLogger(__name__)

FIRST_LOOK: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(seconds=30)
UNASKED_SECONDS: Final = 300.0
"""How long a destination that offers no C-FIND is not asked again: each time costs an association."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Claims whose study the destination does not show yet.

    Attributes:
        claims: The claims.
        why: What they wait for.
    """

    claims: tuple[DeliveryClaim, ...]
    why: str = ""

    def look_at(self, claim: DeliveryClaim, deadline: datetime) -> datetime:
        """When to look again: after pauses that double, and when the time is over."""
        return min(utc_now() + min(FIRST_LOOK * (1 << min(claim.looks, 10)), LONGEST_PAUSE), deadline)


def deadline_of(claim: DeliveryClaim, settings: Settings) -> datetime:
    """Until when a result waits."""
    return claim.made_at + timedelta(seconds=settings.wait_for_study_seconds)


class Arrivals:
    """Looks whether results may go, and knows for a while who cannot be asked."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._asked_again_at: dict[str, float] = {}

    def still_missing(self, destination: Destination, claims: Sequence[DeliveryClaim]) -> Waiting:
        """Which results must wait, by one question for each study on one association.

        Raises:
            PeerUnavailable: If the destination does not answer at all.
        """
        now = utc_now()
        results = [
            claim for claim in claims if not claim.is_image and not is_selftest(claim.study_instance_uid)
        ]
        asked = [claim for claim in results if deadline_of(claim, self._settings) > now]
        for claim in results:
            if claim.looks and claim not in asked:
                log.warning(
                    "study %s: result of analysis %d goes to %s without waiting for the study any longer",
                    claim.study_instance_uid,
                    claim.analysis_id,
                    destination.address,
                )
        missing = self._missing(destination, {claim.study_instance_uid for claim in asked})
        waiting = tuple(claim for claim in asked if claim.study_instance_uid in missing)
        return Waiting(waiting, f"waits until {destination.ae_title} shows the study")

    def _missing(self, destination: Destination, studies: set[str]) -> set[str]:
        """The studies that the destination does not show, or cannot be asked for just now."""
        missing = set(studies)
        if not studies or self._clock() < self._asked_again_at.get(destination.address, -inf):
            return set()
        try:
            with querying(self._settings, destination) as query:
                for study in sorted(studies):
                    if query.shows(study):
                        missing.remove(study)
        except (PeerFailed, TooManyMatches) as error:  # one study cannot be too many: it is out of resources
            log.warning("%s could not be asked for studies: %s", destination, error)
        except PeerRefused as error:
            log.info("%s cannot be asked for studies, so nothing waits for them: %s", destination, error)
            if isinstance(error, NotOffered):
                self._asked_again_at[destination.address] = self._clock() + UNASKED_SECONDS
            return set()
        return missing
