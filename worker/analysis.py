"""Reading studies: claim what is due, read every image, make the results, write it all down in one go."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from litegpt.engine import Engine, Read
from litegpt.errors import RadiographError
from litegpt.memory import device_name, used_bytes
from litegpt.radiograph import Radiograph
from service import queue
from service.archive import Archive
from service.errors import LeaseLost, NodeError, TryAgain
from service.metrics.processes import AnalysisMetrics
from service.models.roster import KnownModel, Roster, roster_of
from service.peers import Destination, result_kinds
from service.pulse import Pulse
from service.records import analyses
from service.records.analyses import ImageOutcome, WrittenResult
from service.records.claims import Claim, ClaimedImage
from service.records.database import Records
from service.records.retry import Retry
from service.records.states import Purpose
from service.rules.rule import ResultRule
from service.rules.rulebook import Rulebook
from service.settings import Settings
from worker.decoding import decoded, decoding
from worker.engines import Engines
from worker.errors import CannotReport, ModelAway
from worker.results.making import make_results
from worker.rounds import Rounds
from worker.turns import Turns

log = logging.getLogger(__name__)

_SHADOW = "shadow"
"""In the place of a rule's name: no rule of the hospital sends what a shadow says."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a batch: its engine, and where its results go where it reads as a shadow."""

    engine: Engine
    test_destinations: tuple[Destination, ...]


class Analyst(Rounds):
    """One process's reader of studies. A model is loaded with the first of its studies.

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
        self._archive = archive
        self._bell = bell
        self._pulse = pulse or Pulse(settings, queue.ANALYSIS)
        self._rulebook = Rulebook(settings)
        self._retry = Retry.of(settings)
        self._lease = timedelta(seconds=settings.analysis_lease_seconds)
        self._metrics = AnalysisMetrics()
        self._turns = Turns(settings.backlog_every)
        self._isolation = decoding(settings)
        self.engines = Engines(settings.models_loaded)

    def _round(self) -> bool:
        roster = self._roster()
        claims = self._claim(roster)
        if not claims:
            return False
        reader = roster.called(f"{claims[0].model.id} {claims[0].model.version}")
        # Whether it is a demonstration, its folder knows best.
        claims = [replace(claim, model=reader.identity) for claim in claims]
        with self._pulse.busy(len(claims)), self._kept(claims):
            self._read_by(reader, claims)
        self._ring_for_deliveries(reader)
        return True

    def _roster(self) -> Roster:
        """The models as they are now; another one may have been activated since the last batch."""
        with self._records.reading() as session:
            return roster_of(session, self._settings)

    def _claim(self, roster: Roster) -> list[Claim]:
        questions = [
            (priority, model.identity.id, model.identity.version)
            for priority, model in self._turns.questions(roster, self.engines.holds)
            if self.engines.may_be_asked(model)
        ]
        limit = self._settings.analysis_batch_size
        return analyses.claim_first(
            self._records, questions, limit=limit, lease=self._lease, retry=self._retry
        )

    def _read_by(self, reader: KnownModel, batch: Sequence[Claim]) -> None:
        """Reads a batch by its model; where that cannot be loaded, the batch waits and is at no fault."""
        begun, held = time.monotonic(), self.engines.holds(reader)
        try:
            engine = self.engines.get(reader)  # before the clock of reading starts
        except ModelAway as error:
            for claim in batch:
                self._put_back(claim, str(error), partial(analyses.postpone, retry=self._retry))
            return
        finally:
            if not held:  # also where it could not be loaded: others may have made room for it
                self._pulse.has_loaded(", ".join(self.engines.names), device_name())
        if not held:
            self._turns.loaded(reader, time.monotonic() - begun)
        self._turns.read(reader)
        self._read(batch, Reader(engine, reader.test_destinations))

    def _read(self, batch: Sequence[Claim], reader: Reader) -> None:
        """Reads a batch together; where that fails, one by one, so that only what is to blame fails."""
        if len(batch) > 1:
            try:
                outcomes = self._outcomes(reader, [image for claim in batch for image in claim.images])
            except Exception as error:  # noqa: BLE001 - the task's edge: what is to blame shows alone
                log.warning("a batch of %d analyses failed (%s); reading one by one", len(batch), error)
            else:
                for claim in batch:
                    with self._guarded(claim):
                        self._conclude(claim, outcomes, reader)
                return
        for claim in batch:
            with self._guarded(claim):
                self._conclude(claim, self._outcomes(reader, claim.images), reader)

    @contextmanager
    def _guarded(self, claim: Claim) -> Iterator[None]:
        """The task's edge: whatever happens to one analysis is written down, and the others go on."""
        try:
            yield
        except LeaseLost as error:
            log.warning("study %s: %s; its results are dropped", claim.study_instance_uid, error)
        except TryAgain as error:
            self._put_back(claim, str(error), partial(analyses.postpone, retry=self._retry))
        except NodeError as error:
            self._put_back(claim, str(error), partial(analyses.fail, again=False, retry=self._retry))
        except Exception as error:
            log.exception("analysis %d of study %s", claim.analysis_id, claim.study_instance_uid)
            text = f"{type(error).__name__}: {error}"
            self._put_back(claim, text, partial(analyses.fail, again=True, retry=self._retry))

    def _outcomes(self, reader: Reader, images: Sequence[ClaimedImage]) -> dict[int, ImageOutcome]:
        """Reads every image that can be read, as many at once as the model's device allows."""
        with self._metrics.phase(AnalysisMetrics.READ):
            reads = reader.engine.read_ahead(images, self._load)
            outcomes = {read.item.instance_id: _outcome(read) for read in reads}
        self._metrics.batch(len(images), sum(bool(outcome.not_read) for outcome in outcomes.values()))
        if (used := used_bytes()) is not None:
            self._metrics.gpu_memory(used)
        return outcomes

    def _load(self, image: ClaimedImage) -> Radiograph:
        path = self._archive.absolute(image.path)
        with self._metrics.phase(AnalysisMetrics.LOAD):
            return decoded(self._isolation, path, self._settings.maximum_pixels)

    def _conclude(self, claim: Claim, read: Mapping[int, ImageOutcome], reader: Reader) -> None:
        """Makes an analysis's results and writes everything down."""
        outcomes = [read[image.instance_id] for image in claim.images]
        if all(outcome.not_read for outcome in outcomes):
            self._quarantine(claim, outcomes, reader)
            return
        rule = self._rule(claim, outcomes, reader)
        results = self._results(claim, outcomes, rule)
        analyses.finish(self._records, claim, outcomes, results, rule)
        log.info(
            "study %s: analysis %d done, %d findings to report and %d below threshold in %d images",
            claim.study_instance_uid,
            claim.analysis_id,
            sum(finding.reported for outcome in outcomes for finding in outcome.findings),
            sum(not finding.reported for outcome in outcomes for finding in outcome.findings),
            len(outcomes),
        )

    def _quarantine(self, claim: Claim, outcomes: Sequence[ImageOutcome], reader: Reader) -> None:
        """Ends an analysis of which no image could be read; its report says so to whoever waits for it."""
        why = "; ".join(outcome.not_read for outcome in outcomes)
        rule = self._rule(claim, outcomes, reader)
        try:
            results = self._results(claim, outcomes, rule)
        except CannotReport as error:
            raise CannotReport(f"{why}; and no report of that: {error}") from error
        analyses.finish(self._records, claim, outcomes, results, rule, quarantined=why)
        log.error("study %s: analysis %d failed: %s", claim.study_instance_uid, claim.analysis_id, why)

    def _rule(self, claim: Claim, outcomes: Sequence[ImageOutcome], reader: Reader) -> ResultRule:
        """Where its results go; a shadow's nowhere, or where a test waits for them."""
        if claim.purpose is Purpose.SHADOW:
            return ResultRule(name=_SHADOW, destinations=reader.test_destinations)
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        return self._rulebook.rules().for_result([image.facts for image in claim.images], findings)

    def _results(
        self, claim: Claim, outcomes: Sequence[ImageOutcome], rule: ResultRule
    ) -> list[WrittenResult]:
        if claim.purpose is Purpose.SHADOW and not rule.destinations:
            return []
        wanted = result_kinds(rule.destinations)
        with self._metrics.phase(AnalysisMetrics.RESULTS):
            return make_results(claim, outcomes, wanted, self._settings, self._archive)

    def _put_back(self, claim: Claim, error: str, write: Callable[[Records, Claim, str], None]) -> None:
        log.error("study %s: analysis %d failed: %s", claim.study_instance_uid, claim.analysis_id, error)
        try:
            write(self._records, claim, error)
        except LeaseLost as lost:
            log.warning("study %s: %s", claim.study_instance_uid, lost)

    def _ring_for_deliveries(self, reader: KnownModel) -> None:
        if not (self._rulebook.rules().destinations or reader.shadow_to):
            return
        try:
            self._bell.ring(queue.DELIVERY)
        except TryAgain as error:
            log.warning("deliveries wait for the sweeper: %s", error)

    @contextmanager
    def _kept(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Renews the claims' leases in the background while the block works on them."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(claims, over), name="leases", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _keep(self, claims: Sequence[Claim], over: threading.Event) -> None:
        while not over.wait(self._lease.total_seconds() / 3):
            for claim in claims:
                try:
                    analyses.renew(self._records, claim, self._lease)
                except (LeaseLost, TryAgain) as error:
                    # Finished already, superseded, or the database is away: `finish` will find out.
                    log.info("lease of analysis %d not renewed: %s", claim.analysis_id, error)


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
