"""The parts of a study's way measured alone: one after the other in this process, while nothing else runs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from litegpt.engine import Engine
from litegpt.squares import SquashedImage
from service import queue
from service.archive import Archive
from service.completion import Completion
from service.eligibility import Eligibility
from service.metrics.processes import AnalysisMetrics
from service.models.roster import roster_of
from service.peers import result_kinds
from service.records import analyses, conclusions
from service.records.claims import Claim, ClaimedImage
from service.records.conclusions import ImageOutcome
from service.records.database import Records
from service.records.intake import Receiver
from service.records.migrate import migrate
from service.records.retry import Retry
from service.records.states import Priority
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.wire import sender
from worker import engines
from worker.decoding import Decoding
from worker.delivery import Courier
from worker.making import Making

STEPS: Final = ("complete", "ring", "claim", "load", "read", "make", "ring again", "send")
"""In their order. ``make`` also writes the results and commits them; ``send`` claims them, sends them on the
association that stands, and commits that."""

_LEASE: Final = timedelta(hours=1)

Came = TypeVar("Came")


class Parts:
    """What studies go through on a node that is not running, a step at a time."""

    def __init__(self, settings: Settings) -> None:
        """Args:
        settings: The node's, of which the database is empty and ``quiet_seconds`` is 0.
        """
        sender.configure_process()
        engines.configure_process(settings)  # as many threads as the node's worker has
        self._settings = settings
        self._records = Records.open(settings)
        migrate(self._records.engine)
        queue.prepare_broker(settings)
        self._archive = Archive(settings.data_dir)
        self._archive.prepare()
        self._bell = queue.Bell(settings)
        self._rules = Rulebook(settings).rules()
        self._courier = Courier(settings, self._records, self._archive)
        self._decoding = Decoding(settings, self._archive, AnalysisMetrics())
        self._making = Making(settings, self._archive)
        with self._records.reading() as session:
            self._model = roster_of(session, settings).active
        self._engine = Engine.load(self._model.folder)
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def measure(self, files: Sequence[Path], at_once: int) -> Mapping[str, float]:
        """Seconds of each step for a study of one image: medians over batches; the first one does not count.

        Args:
            files: The images, of a study each; they are moved.
            at_once: Studies in a batch.
        """
        for start in range(0, len(files), at_once):
            self._batch(files[start : start + at_once])
            if not start:
                self._seconds.clear()
        return {step: statistics.median(self._seconds[step]) / at_once for step in STEPS}

    def close(self) -> None:
        """Gives everything back."""
        self._courier.close()
        self._bell.close()
        self._records.close()

    def _batch(self, files: Iterable[Path]) -> None:
        receiver = Receiver(self._records, self._archive, Eligibility.of(self._settings))
        for file in files:
            receiver.take(file)
        completion = Completion.at_present(self._settings, self._records)
        self._timed("complete", lambda: completion.complete_due(self._records))
        self._timed("ring", lambda: self._bell.ring(queue.ANALYSIS))
        claims = self._timed("claim", self._claim)
        images = [image for claim in claims for image in claim.images]
        squares = self._timed("load", lambda: self._load(images))
        readings = self._timed("read", lambda: self._engine.read(squares))
        outcomes = [
            ImageOutcome(image.instance_id, reading.findings)
            for image, reading in zip(images, readings, strict=True)
        ]
        self._timed("make", lambda: self._make(claims, outcomes))
        self._timed("ring again", lambda: self._bell.ring(queue.DELIVERY))
        self._timed("send", self._courier.drain)

    def _claim(self) -> list[Claim]:
        retry = Retry.of(self._settings)
        with self._records.writing() as session:
            of_model = roster_of(session, self._settings).active.identity
            question = (Priority.ROUTINE, of_model.id, of_model.version)
            claimed = analyses.claim_first(session, [question], limit=1000, lease=_LEASE, retry=retry)
        return list(claimed.claims)

    def _load(self, images: Sequence[ClaimedImage]) -> list[SquashedImage]:
        loading = self._decoding.begin(images, self._engine.square_sizes)
        return [loading(image) for image in images]

    def _make(self, claims: Sequence[Claim], outcomes: Sequence[ImageOutcome]) -> None:
        for claim, outcome in zip(claims, outcomes, strict=True):
            facts = [image.facts for image in claim.images]
            rule = self._rules.for_result(facts, outcome.findings)
            kinds = result_kinds(rule.destinations)
            results = self._making.make(claim, [outcome], kinds)
            conclusions.finish(self._records, claim, [outcome], results, rule)

    def _timed(self, step: str, work: Callable[[], Came]) -> Came:
        begun = time.perf_counter()
        came = work()
        self._seconds[step].append(time.perf_counter() - begun)
        return came
