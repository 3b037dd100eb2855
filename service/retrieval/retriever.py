"""The retriever: works retrieval jobs off, one study of a job at a time, by rate and window.

It may run twice: a job's step is claimed. Whatever it is doing when it is killed is done again from where the
records stand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from service import heartbeat
from service.archive import Archive
from service.eligibility import Eligibility
from service.errors import (
    LeaseLost,
    NodeError,
    NotSetUp,
    OutOfResources,
    PeerFailed,
    PeerRefused,
    PeerUnavailable,
    TryAgain,
)
from service.metrics.processes import RetrieverMetrics
from service.records import retrievals
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.retrievals import JobClaim, StudyClaim
from service.records.retry import Retry
from service.retrieval import window
from service.retrieval.fetching import Fetch
from service.retrieval.filters import Filters
from service.retrieval.finding import answers
from service.retrieval.keeper import Keeper
from service.settings import Settings
from service.wire.query import FoundStudy, Query, querying
from service.wire.retrieval import Method
from service.wire.storage import Storage

log = logging.getLogger(__name__)

PART: Final = "retriever"
"""Its name among the node's parts."""

_BEATS_EVERY_SECONDS: Final = 10.0
_WRITTEN_AT_ONCE: Final = 500
_WRITES_EVERY_SECONDS: Final = 2.0

Conclusion = Callable[[], None]


class Retriever:
    """One retriever, with its own database connection. Its process is set up by ``configure_process``."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._records = Records.open(settings)
        self._archive = Archive(settings.data_dir)
        self._metrics = RetrieverMetrics(Method)
        receiver = Receiver(
            self._records,
            self._archive,
            Eligibility.of(settings),
            maximum_instances=settings.maximum_instances_per_study,
        )
        self._storage = Storage(
            receiver, settings.ae_title, self._metrics.storage, settings.maximum_dataset_bytes
        )
        self._lease = timedelta(seconds=settings.retrieval_lease_seconds)
        self._renews_every_seconds = min(_BEATS_EVERY_SECONDS, settings.retrieval_lease_seconds / 3)
        self._retry = Retry.of(settings)
        self._disk_is_full = False

    def run(self, stop: threading.Event) -> None:
        """Works until ``stop`` is set, whatever happens; a study in hand is given back then."""
        while not stop.is_set():
            worked = False
            try:
                heartbeat.beat(self._settings.data_dir, PART)
                worked = self.work(stop)
            except TryAgain as error:
                log.warning("retrieving put off: %s", error)
            except Exception:  # the task's edge: one strange study must not end the retrieving
                log.exception("retrieving broke off")
            if not worked:
                stop.wait(self._settings.sweep_interval_seconds)
        heartbeat.rest(self._settings.data_dir, PART)
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._records.close()

    def work(self, stop: threading.Event) -> bool:
        """Does one step of a job that is due; says whether there was one.

        Raises:
            OutOfResources: If the records are away.
        """
        if not self._has_room():
            return False
        claim = retrievals.claim(
            self._records,
            now=self._clock(),
            lease=self._lease,
            is_open=self._is_open,
            retry=self._retry,
        )
        if claim is None:
            return False
        try:
            with Keeper(partial(self._renew, claim), self._renews_every_seconds, stop) as keeper:
                if isinstance(claim, StudyClaim):
                    conclude = self._study(claim, keeper)
                else:
                    conclude = self._find(claim, keeper)
            conclude()
        except LeaseLost as error:
            log.info("%s", error)
        return True

    def _study(self, claim: StudyClaim, keeper: Keeper) -> Conclusion:
        """Retrieves a study; what writes the end of it is returned, for when the keeper is gone."""
        started = self._clock()
        fetch = Fetch(self._settings, self._records, self._storage, self._metrics, claim, keeper)
        name = f"study {claim.study_instance_uid} of job {claim.job_id}"
        try:
            outcome = fetch.run()
            log.info("%s: %s %s", name, outcome.state, outcome.why or f"with {outcome.images_come} images")
            return lambda: retrievals.finish(
                self._records, claim, outcome, self._clock(), self._next_at(claim, fetch, started)
            )
        except (PeerUnavailable, NotSetUp, OutOfResources) as error:
            return self._put_off(claim, error)
        except (PeerFailed, PeerRefused) as error:
            if keeper.broken_off:
                return partial(self._give_back, claim)
            log.warning("%s: %s", name, error)
            return partial(
                retrievals.fail,
                self._records,
                claim,
                str(error),
                (fetch.expected, fetch.come),
                for_good=isinstance(error, PeerRefused),
                retry=self._retry,
                now=self._clock(),
                next_at=self._next_at(claim, fetch, started),
            )

    def _find(self, claim: JobClaim, keeper: Keeper) -> Conclusion:
        """Asks what there is, from where the last attempt came to; returns as ``_study`` does."""
        filters = Filters.model_validate_json(claim.filters)
        try:
            with querying(self._settings, claim.source) as query:
                keeper.watch(query)
                if not self._ask(claim, filters, query, keeper):
                    return partial(self._give_back, claim)
            log.info("job %d: everything found", claim.job_id)
            return lambda: retrievals.found_all(self._records, claim, self._clock())
        except (PeerUnavailable, PeerFailed, PeerRefused, OutOfResources) as error:
            return partial(self._give_back, claim) if keeper.broken_off else self._put_off(claim, error)

    def _ask(self, claim: JobClaim, filters: Filters, query: Query, keeper: Keeper) -> bool:
        """Asks one question after the other; says whether it came to the end of them."""
        found: list[FoundStudy] = []
        written_at = time.monotonic()
        for number in range(claim.questions_answered, filters.question_count):
            if keeper.broken_off or not self._is_open(claim.daily_window):
                return False
            for study in answers(query, filters, number):
                found.append(study)
                if len(found) >= _WRITTEN_AT_ONCE:
                    retrievals.add_found(self._records, claim, found, self._clock(), number)
                    found.clear()
            last = number + 1 == filters.question_count
            if last or time.monotonic() - written_at > _WRITES_EVERY_SECONDS:
                retrievals.add_found(self._records, claim, found, self._clock(), number + 1)
                found.clear()
                written_at = time.monotonic()
        return True

    def _put_off(self, claim: JobClaim, error: NodeError) -> Conclusion:
        """A peer that refuses pauses the job until an admin has seen to it; what is away is waited for."""
        log.warning("job %d: %s", claim.job_id, error)
        if isinstance(error, PeerRefused):
            return lambda: retrievals.pause(self._records, claim, str(error), self._clock())
        return lambda: retrievals.await_peer(self._records, claim, str(error), self._retry, self._clock())

    def _give_back(self, claim: JobClaim) -> None:
        retrievals.give_back(self._records, claim, self._clock())

    def _renew(self, claim: JobClaim) -> None:
        heartbeat.beat(self._settings.data_dir, PART)
        retrievals.renew(self._records, claim, self._clock() + self._lease)

    def _next_at(self, claim: StudyClaim, fetch: Fetch, started: datetime) -> datetime:
        """When the job's next study is due: by its rate, of which only what was asked for counts."""
        if not fetch.asked or not claim.rate_per_hour:
            return self._clock()
        return started + timedelta(hours=1) / claim.rate_per_hour

    def _is_open(self, daily_window: str) -> bool:
        return window.is_open(daily_window, self._clock(), self._settings.zone)

    def _has_room(self) -> bool:
        """Whether images may come: below the watermark the listener would refuse them anyhow."""
        try:
            self._archive.require_room(self._settings.minimum_free_bytes)
        except OutOfResources as error:
            if not self._disk_is_full:
                log.error("retrieving waits: %s", error)
            self._disk_is_full = True
        else:
            self._disk_is_full = False
        return not self._disk_is_full
