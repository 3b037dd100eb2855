"""Waiting until a destination shows a study: a result that comes before its images may be filed nowhere.

A destination that offers no C-FIND is not asked, and one that cannot answer is waited for no longer than for
one that has not got the study.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.errors import PeerFailed, PeerRefused, TooManyMatches
from service.peers import Destination
from service.records.database import utc_now
from service.records.deliveries import DeliveryClaim
from service.selftest.marks import is_selftest
from service.settings import Settings
from service.wire.query import querying

log = logging.getLogger(__name__)

FIRST_LOOK: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(seconds=30)


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


def still_missing(settings: Settings, destination: Destination, claims: Sequence[DeliveryClaim]) -> Waiting:
    """Which results must wait, by one question for each study on one association.

    Raises:
        PeerUnavailable: If the destination does not answer at all.
    """
    now = utc_now()
    results = [claim for claim in claims if not claim.is_image and not is_selftest(claim.study_instance_uid)]
    asked = [claim for claim in results if deadline_of(claim, settings) > now]
    for claim in results:
        if claim.looks and claim not in asked:
            log.warning(
                "study %s: result of analysis %d goes to %s without waiting for the study any longer",
                claim.study_instance_uid,
                claim.analysis_id,
                destination.address,
            )
    missing = _missing(settings, destination, {claim.study_instance_uid for claim in asked})
    waiting = tuple(claim for claim in asked if claim.study_instance_uid in missing)
    return Waiting(waiting, f"waits until {destination.ae_title} shows the study")


def _missing(settings: Settings, destination: Destination, studies: set[str]) -> set[str]:
    """The studies that the destination does not show, or cannot be asked for just now."""
    missing = set(studies)
    if not studies:
        return missing
    try:
        with querying(settings, destination) as query:
            for study in sorted(studies):
                if query.shows(study):
                    missing.remove(study)
    except (PeerFailed, TooManyMatches) as error:  # one study cannot be too many: it is out of resources
        log.warning("%s could not be asked for studies: %s", destination, error)
    except PeerRefused as error:
        log.info("%s cannot be asked for studies, so nothing waits for them: %s", destination, error)
        return set()
    return missing
