"""How much a job would have to retrieve: its studies are asked for and counted, none is retrieved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from service.records import retrieval_jobs
from service.records.database import Records
from service.retrieval.filters import Filters
from service.retrieval.finding import answers
from service.wire.query import FoundStudy, Query

_AT_ONCE: Final = 500


@dataclass(slots=True)
class Foreseen:
    """What has been found so far.

    Attributes:
        questions, asked: How many questions there are, and how many have been answered.
        studies: How many studies there are; a study whose parts lie in two days' answers counts twice.
        objects: All of their objects, as far as the PACS says.
        uncounted: Whether it does not say so of some.
        here: Of how many of them the node has something.
    """

    questions: int
    asked: int = 0
    studies: int = 0
    objects: int = 0
    uncounted: bool = False
    here: int = 0

    def count(self, records: Records, studies: Sequence[FoundStudy]) -> None:
        """Counts some more."""
        self.studies += len(studies)
        self.objects += sum(study.objects or 0 for study in studies)
        self.uncounted |= any(study.objects is None for study in studies)
        with records.reading() as session:
            self.here += retrieval_jobs.count_here(session, [study.study_instance_uid for study in studies])


def foresee(
    records: Records, query: Query, filters: Filters, note: Callable[[Foreseen], None] = lambda _: None
) -> Foreseen:
    """Counts all; ``note`` is told how far it is after each question, and may break it off by an error.

    Raises:
        PeerFailed: If the peer does not answer to the end.
        PeerRefused: If it does not answer such questions.
    """
    so_far = Foreseen(filters.question_count)
    note(so_far)
    for number in range(filters.question_count):
        studies = answers(query, filters, number)
        while some := list(islice(studies, _AT_ONCE)):
            so_far.count(records, some)
            note(so_far)
        so_far.asked += 1
        note(so_far)
    return so_far
