"""What comes of analyses that were read: their results, made and written down, or why there are none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from service import queue
from service.archive import Archive
from service.errors import LeaseLost, NodeError, TryAgain, in_words
from service.metrics.processes import AnalysisMetrics
from service.peers import Destination, result_kinds
from service.records import analyses, conclusions
from service.records.claims import Claim
from service.records.conclusions import Conclusion, ImageOutcome, WrittenResult
from service.records.database import Records
from service.records.retry import Retry
from service.records.states import Purpose
from service.rules.rule import ResultRule
from service.rules.rulebook import Rulebook
from service.settings import Settings
from worker.errors import CannotReport
from worker.making import Making

log = logging.getLogger(__name__)

_SHADOW = "shadow"
"""In the place of a rule's name: no rule of the hospital sends what a shadow says."""


class Conclusions:
    """Those of one worker. One thread at a time concludes; any may guard."""

    def __init__(
        self,
        settings: Settings,
        records: Records,
        archive: Archive,
        bell: queue.Bell,
        metrics: AnalysisMetrics,
    ) -> None:
        """Args:
        settings, records, archive, bell: The node's.
        metrics: Told how long results take to be made.
        """
        self._records, self._bell = records, bell
        self._metrics = metrics
        self._making = Making(settings, archive)
        self._rulebook = Rulebook(settings)
        self._retry = Retry.of(settings)

    def get_ready(self) -> None:
        """Loads what results are made with.

        Raises:
            Broken: If the process that makes them does not live.
        """
        self._making.get_ready()

    @contextmanager
    def guarded(self, claim: Claim) -> Iterator[None]:
        """The task's edge: whatever happens to one analysis is written down, and the others go on."""
        try:
            yield
        except LeaseLost as error:
            log.warning("study %s: %s; its results are dropped", claim.study_instance_uid, error)
        except TryAgain as error:
            self.postpone(claim, str(error))
        except NodeError as error:
            self._put_back(claim, str(error), partial(analyses.fail, again=False, retry=self._retry))
        except Exception as error:
            log.exception("analysis %d of study %s", claim.analysis_id, claim.study_instance_uid)
            self._put_back(claim, in_words(error), partial(analyses.fail, again=True, retry=self._retry))

    def conclude(
        self,
        claims: Sequence[Claim],
        read: Mapping[int, ImageOutcome],
        test_destinations: Sequence[Destination],
    ) -> None:
        """Makes the results of analyses, writes them, and rings for their delivery.

        Args:
            claims: The analyses.
            read: What became of their images, by instance.
            test_destinations: Where results of a shadow go.
        """
        made = []
        for claim in claims:
            with self.guarded(claim):
                made.append(self._conclusion(claim, read, test_destinations))
        self._write(made)
        if any(one.rule.destinations or one.rule.webhooks for one in made):
            self._ring()

    def _conclusion(
        self, claim: Claim, read: Mapping[int, ImageOutcome], test_destinations: Sequence[Destination]
    ) -> Conclusion:
        """Makes an analysis's results; of one of which no image could be read, the report that says so."""
        outcomes = [read[image.instance_id] for image in claim.images]
        rule = self._rule(claim, outcomes, test_destinations)
        if not all(outcome.not_read for outcome in outcomes):
            return Conclusion(claim, outcomes, self._results(claim, outcomes, rule), rule)
        why = "; ".join(outcome.not_read for outcome in outcomes)
        try:
            results = self._results(claim, outcomes, rule)
        except CannotReport as error:
            raise CannotReport(f"{why}; and no report of that: {error}") from error
        return Conclusion(claim, outcomes, results, rule, quarantined=why)

    def _write(self, made: Sequence[Conclusion]) -> None:
        """Writes what came of a batch in one transaction; where that fails, one by one."""
        if len(made) > 1:
            try:
                self._write_together(made)
                return
            except Exception as error:  # noqa: BLE001 - the task's edge: what is to blame shows alone
                why = in_words(error)
                log.warning("%d analyses were not written together (%s): one by one", len(made), why)
        for one in made:
            with self.guarded(one.claim):
                self._write_together([one])

    def _write_together(self, made: Sequence[Conclusion]) -> None:
        lost = conclusions.finish_all(self._records, made)
        for one in made:
            claim, found = one.claim, [finding for image in one.outcomes for finding in image.findings]
            if claim in lost:
                log.warning(
                    "study %s: analysis %d is not ours any more; its results are dropped",
                    claim.study_instance_uid,
                    claim.analysis_id,
                )
            elif one.quarantined:
                log.error(
                    "study %s: analysis %d failed: %s",
                    claim.study_instance_uid,
                    claim.analysis_id,
                    one.quarantined,
                )
            else:
                log.info(
                    "study %s: analysis %d done, %d findings to report and %d below threshold in %d images",
                    claim.study_instance_uid,
                    claim.analysis_id,
                    sum(finding.reported for finding in found),
                    sum(not finding.reported for finding in found),
                    len(one.outcomes),
                )

    def _rule(
        self, claim: Claim, outcomes: Sequence[ImageOutcome], test_destinations: Sequence[Destination]
    ) -> ResultRule:
        """Where its results go; a shadow's nowhere, or where a test waits for them."""
        if claim.purpose is Purpose.SHADOW:
            return ResultRule(name=_SHADOW, destinations=tuple(test_destinations))
        findings = [finding for outcome in outcomes for finding in outcome.findings]
        return self._rulebook.rules().for_result([image.facts for image in claim.images], findings)

    def _results(
        self, claim: Claim, outcomes: Sequence[ImageOutcome], rule: ResultRule
    ) -> list[WrittenResult]:
        if claim.purpose is Purpose.SHADOW and not rule.destinations:
            return []
        wanted = result_kinds(rule.destinations)
        with self._metrics.phase(AnalysisMetrics.RESULTS):
            return self._making.make(claim, outcomes, wanted)

    def postpone(self, claim: Claim, error: str) -> None:
        """Puts an analysis back until what it needs is there again; that is no fault of its own."""
        self._put_back(claim, error, partial(analyses.postpone, retry=self._retry))

    def _put_back(self, claim: Claim, error: str, write: Callable[[Records, Claim, str], None]) -> None:
        log.error("study %s: analysis %d failed: %s", claim.study_instance_uid, claim.analysis_id, error)
        try:
            write(self._records, claim, error)
        except LeaseLost as lost:
            log.warning("study %s: %s", claim.study_instance_uid, lost)

    def _ring(self) -> None:
        try:
            self._bell.ring(queue.DELIVERY)
        except TryAgain as error:
            log.warning("deliveries wait for the sweeper: %s", error)
