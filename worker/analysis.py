"""Reading studies: claim what is due, read every image, make the results, write it all down in one go.

The model waits for nobody: while it reads a batch, the next one is claimed and its images are decoded, and
the results of the last one are made and written: both in processes beside it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf

from litegpt.engine import Engine, Read
from litegpt.errors import RadiographError
from litegpt.memory import device_name, used_bytes
from service import queue
from service.archive import Archive
from service.errors import TryAgain, in_words
from service.metrics.processes import AnalysisMetrics
from service.models.roster import KnownModel, Roster, roster_of
from service.pulse import Pulse
from service.records import analyses
from service.records.claims import Claim, ClaimedImage
from service.records.conclusions import ImageOutcome
from service.records.database import Records
from service.records.retry import Retry
from service.records.states import Priority
from service.settings import Settings
from worker.conclusions import Conclusions
from worker.decoding import Decoding, Loading
from worker.engines import Engines
from worker.errors import ModelAway
from worker.leases import Leases
from worker.rounds import Rounds
from worker.turns import Turns

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """Analyses that are read together, until their results are written.

    Attributes:
        claims: Of one model.
        model: Which.
        leases: Kept until the results are written.
        any_more: Whether others may have been due when they were claimed.
        loading: Gives its images; None where their decoding has not begun.
    """

    claims: list[Claim]
    model: KnownModel
    leases: Leases
    any_more: bool
    loading: Loading | None = None

    @property
    def images(self) -> list[ClaimedImage]:
        """Of all of its analyses."""
        return [image for claim in self.claims for image in claim.images]

    @property
    def has_failed(self) -> bool:
        """Whether it has ended a worker before, for all we know."""
        return any(claim.failures for claim in self.claims)


class Analyst(Rounds):
    """One process's reader of studies. A model is loaded with the first of its studies, or before.

    Attributes:
        engines: What is loaded.
    """

    def __init__(
        self,
        settings: Settings,
        records: Records,
        archive: Archive,
        bell: queue.Bell,
        pulse: Pulse | None = None,
    ) -> None:
        """Args:
        settings, records, archive, bell: The node's.
        pulse: Of the process, which is told what it does.
        """
        self._settings = settings
        self._records = records
        self._pulse = pulse or Pulse(settings, queue.ANALYSIS)
        self._retry = Retry.of(settings)
        self._lease = timedelta(seconds=settings.analysis_lease_seconds)
        self._metrics = AnalysisMetrics()
        self._turns = Turns(settings.backlog_every)
        self._conclusions = Conclusions(settings, records, archive, bell, self._metrics)
        self._decoding = Decoding(settings, archive, self._metrics)
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._claiming = ThreadPoolExecutor(1, thread_name_prefix="claims")
        self._ahead_until = inf
        self._next: Batch | None = None
        self._concluding: Future[None] | None = None
        self.engines = Engines(settings.models_loaded)

    def get_ready(self) -> None:
        """Loads the active model and what results are made with: the first study does not wait for them.

        Raises:
            Broken: If the process that makes results does not live.
            OutOfResources: If the records are away.
            ModelAway: If it cannot be loaded.
            ModelError: If it is the settings' one and cannot be read.
        """
        making = self._beside.submit(self._conclusions.get_ready)
        with self._records.reading() as session:
            roster = roster_of(session, self._settings)
        self._engine(roster.active)
        making.result()

    def drain(self, seconds: float = inf) -> bool:
        """As of any rounds; what was claimed ahead is read, and all results are written, before it ends."""
        self._ahead_until = time.monotonic() + seconds
        try:
            nothing_due = super().drain(seconds)
            if self._next is not None:
                self._round()
            return nothing_due
        finally:
            self._put_next_back()
            self._conclude_last()

    def _round(self) -> bool:
        batch, self._next = self._next or self._claimed(), None
        if batch is None and self._conclude_last():
            batch = self._claimed()  # what failed then may be due again
        if batch is None:
            return False
        try:
            if batch.has_failed:
                self._conclude_last()  # what may end this process harms no other
            with self._pulse.busy(len(batch.claims)):
                self._read_by(batch)
        except BaseException:
            batch.leases.let_go()
            raise
        return True

    def _claimed(self) -> Batch | None:
        """The next batch, by the models as they are now: another may have been activated since."""
        limit, retry = self._settings.analysis_batch_size, self._retry
        with self._records.writing() as session:
            roster = roster_of(session, self._settings)
            claimed = analyses.claim_first(
                session, self._questions(roster), limit=limit, lease=self._lease, retry=retry
            )
        if not claimed.claims:
            return None
        named = claimed.claims[0].model
        model = roster.called(f"{named.id} {named.version}")
        # Whether it is a demonstration, its folder knows best.
        claims = [replace(claim, model=model.identity) for claim in claimed.claims]
        return Batch(claims, model, Leases(self._records, claims, self._lease), claimed.any_more)

    def _questions(self, roster: Roster) -> list[tuple[Priority, str, str]]:
        return [
            (priority, model.identity.id, model.identity.version)
            for priority, model in self._turns.questions(roster, self.engines.holds)
            if self.engines.may_be_asked(model)
        ]

    def _read_by(self, batch: Batch) -> None:
        """Reads a batch by its model; where that cannot be loaded, the batch waits and is at no fault."""
        try:
            engine = self._engine(batch.model)  # before the clock of reading starts
        except ModelAway as error:
            batch.leases.let_go()
            for claim in batch.claims:
                self._conclusions.postpone(claim, str(error))
            return
        self._turns.read(batch.model)
        self._begin_to_decode(batch, engine)
        if batch.has_failed or not batch.any_more:
            # What may come meanwhile is an idle worker's; claiming would take this one's time from reading.
            self._read(batch, engine)
            return
        claiming = self._claiming.submit(self._claim_next, batch, engine)
        try:
            self._read(batch, engine)
        finally:
            claiming.result()

    def _engine(self, model: KnownModel) -> Engine:
        begun, held = time.monotonic(), self.engines.holds(model)
        try:
            engine = self.engines.get(model)
        finally:
            if not held:  # also where it could not be loaded: others may have made room for it
                self._pulse.has_loaded(", ".join(self.engines.names), device_name())
        if not held:
            self._turns.loaded(model, time.monotonic() - begun)
        return engine

    def _begin_to_decode(self, batch: Batch, engine: Engine) -> None:
        if batch.loading is None:
            batch.loading = self._decoding.begin(batch.images, engine.square_sizes)

    def _claim_next(self, batch: Batch, engine: Engine) -> None:
        """Claims the batch after this one, while this one is read; begins to decode it for the same model.

        Not before this one is decoded: until then another worker, which has nothing to do, may claim it. And
        not when there is no time left.
        """
        if (loading := batch.loading) is not None:
            loading.wait()
        if time.monotonic() >= self._ahead_until:
            return
        try:
            self._next = self._claimed()
        except TryAgain as error:
            log.warning("nothing is claimed ahead: %s", error)
            return
        if self._next is not None and self._next.model == batch.model:
            self._begin_to_decode(self._next, engine)

    def _put_next_back(self) -> None:
        """Gives up what was claimed ahead and will not be read: this worker has broken off."""
        batch, self._next = self._next, None
        if batch is None:
            return
        batch.leases.let_go()
        for claim in batch.claims:
            with suppress(TryAgain):  # then it is due when its lease ends
                self._conclusions.postpone(claim, "the worker broke off")

    def _read(self, batch: Batch, engine: Engine) -> None:
        """Reads a batch together; where that fails, one by one, so that only what is to blame fails."""
        read = self._read_together(batch, engine) if len(batch.claims) > 1 else None
        claims, outcomes = (batch.claims, read) if read is not None else self._read_apart(batch, engine)
        last, self._concluding = (
            self._concluding,
            self._beside.submit(self._conclude, batch, claims, outcomes),
        )
        if last is not None:
            last.result()  # so that no more than one batch waits for the thread

    def _read_together(self, batch: Batch, engine: Engine) -> dict[int, ImageOutcome] | None:
        try:
            return self._outcomes(engine, batch.images, batch.loading)
        except Exception as error:  # noqa: BLE001 - the task's edge: what is to blame shows alone
            log.warning(
                "a batch of %d analyses failed (%s); reading one by one", len(batch.claims), in_words(error)
            )
        batch.loading = None  # what was away may be there again
        return None

    def _read_apart(self, batch: Batch, engine: Engine) -> tuple[list[Claim], dict[int, ImageOutcome]]:
        """Reads one by one; those that were read, and what became of their images."""
        claims: list[Claim] = []
        outcomes: dict[int, ImageOutcome] = {}
        for claim in batch.claims:
            with self._conclusions.guarded(claim):
                outcomes |= self._outcomes(engine, claim.images, batch.loading)
                claims.append(claim)
        return claims, outcomes

    def _outcomes(
        self, engine: Engine, images: Sequence[ClaimedImage], loading: Loading | None = None
    ) -> dict[int, ImageOutcome]:
        """Reads every image that can be read, as many at once as the model's device allows."""
        if loading is None:
            loading = self._decoding.begin(images, engine.square_sizes)
        with self._metrics.phase(AnalysisMetrics.READ):
            reads = engine.read_ahead(images, loading)
            outcomes = {read.item.instance_id: _outcome(read) for read in reads}
        self._metrics.batch(len(images), sum(bool(outcome.not_read) for outcome in outcomes.values()))
        if (used := used_bytes()) is not None:
            self._metrics.gpu_memory(used)
        return outcomes

    def _conclude(self, batch: Batch, claims: Sequence[Claim], outcomes: Mapping[int, ImageOutcome]) -> None:
        try:
            self._conclusions.conclude(claims, outcomes, batch.model.test_destinations)
        finally:
            batch.leases.let_go()

    def _conclude_last(self) -> bool:
        """Waits until the results of the last batch are written; whether there was one."""
        last, self._concluding = self._concluding, None
        if last is None:
            return False
        last.result()
        return True


def _outcome(read: Read[ClaimedImage]) -> ImageOutcome:
    """What became of an image; an archive that cannot be reached is nobody's outcome but an error."""
    image, came = read.item, read.came
    if isinstance(came, OSError):
        raise came
    if isinstance(came, RadiographError):
        log.warning("image %s cannot be read: %s", image.sop_instance_uid, came)
        return ImageOutcome(image.instance_id, not_read=str(came))
    if came.failure is not None:
        log.warning("image %s was not answered: %s", image.sop_instance_uid, came.failure)
        return ImageOutcome(image.instance_id, not_read=came.failure)
    return ImageOutcome(image.instance_id, came.findings)
