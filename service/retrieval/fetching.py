"""Retrieving one study: what the PACS has of it, what the node lacks of that, and whether it has come.

Which images there are is asked for at the levels below (SERIES, IMAGE), and what has come is looked up in the
records: neither what a PACS counts nor the status of its answer decides. So a study that was retrieved when
the retriever was killed is not retrieved again, and objects that are not images hold nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.eligibility import RADIOGRAPHS
from service.errors import NodeError, NotSetUp, PeerFailed
from service.metrics.processes import RetrieverMetrics
from service.records.database import Records
from service.records.retrievals import Outcome, StudyClaim, images_here
from service.records.states import RetrievalState
from service.retrieval.filters import Filters
from service.retrieval.keeper import Keeper
from service.settings import Settings
from service.wire.query import Query, querying
from service.wire.retrieval import Method, retrieving
from service.wire.storage import Storage


@dataclass(slots=True)
class Fetch:
    """One attempt at one study.

    Attributes:
        expected: How many images are wanted, as soon as that is known.
        come: How many of them the node has.
        asked: Whether the PACS has been asked to send anything.
    """

    settings: Settings
    records: Records
    storage: Storage
    metrics: RetrieverMetrics
    claim: StudyClaim
    keeper: Keeper
    expected: int = 0
    come: int = 0
    asked: bool = False

    @property
    def _uid(self) -> str:
        return self.claim.study_instance_uid

    def run(self) -> Outcome:
        """Retrieves what is missing.

        Raises:
            PeerUnavailable: If the PACS is away.
            PeerFailed: If it answers, and not everything has come.
            PeerRefused: If it refuses this study for good.
            NotSetUp: If it is not set up for us.
            OutOfResources: If the records are away.
        """
        wanted = self._wanted()
        self.expected = sum(map(len, wanted.values()))
        if not self.expected:
            return Outcome(RetrievalState.SKIPPED, 0, 0, "has no series that is wanted")
        lacking = self._lacking(wanted)
        if not lacking and self.claim.study_attempt == 1 and not self.claim.again:
            return Outcome(RetrievalState.SKIPPED, self.expected, self.come, "was here already")
        complaint = self._retrieve(list(wanted) if self.claim.again else lacking)
        lacking = self._lacking(wanted)
        if lacking or (complaint and self.claim.again):
            raise complaint or PeerFailed(
                f"{self.claim.source} says that it has sent all;"
                f" {self.come} of {self.expected} images have come"
            )
        return Outcome(RetrievalState.DONE, self.expected, self.come)

    def _wanted(self) -> dict[str, set[str]]:
        """SOP Instance UIDs of the images, by the UIDs of the wanted series."""
        filters = Filters.model_validate_json(self.claim.filters)
        with querying(self.settings, self.claim.source) as query:
            self.keeper.watch(query)
            series = [one for one in query.series(self._uid) if filters.wants_series(one)]
            images = {one.series_instance_uid: self._images(query, one.series_instance_uid) for one in series}
        return {uid: found for uid, found in images.items() if found}

    def _images(self, query: Query, series_instance_uid: str) -> set[str]:
        found = query.images(self._uid, series_instance_uid)
        return {one.sop_instance_uid for one in found if one.sop_class_uid in ("", *RADIOGRAPHS)}

    def _lacking(self, wanted: dict[str, set[str]]) -> list[str]:
        """The series of which the node lacks something."""
        here = images_here(self.records, self._uid)
        self.come = sum(len(images & here) for images in wanted.values())
        return [series for series, images in wanted.items() if not images <= here]

    def _retrieve(self, series: list[str]) -> NodeError | None:
        """What the PACS complained of, if anything."""
        if not series:
            return None
        complaint = None
        with retrieving(
            self.settings, self.claim.source, Method(self.claim.method), self.storage
        ) as retrieval:
            self.keeper.watch(retrieval)
            self.metrics.associated(self.claim.method)
            self.asked = True
            for one in series:
                complaint = retrieval.series(self._uid, one) or complaint
                if isinstance(complaint, NotSetUp):
                    raise complaint
        return complaint
