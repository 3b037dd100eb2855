"""Finding the studies that filters ask for, question by question, so that it can be broken off and go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service.errors import TooManyMatches
from service.retrieval.filters import Filters
from service.wire.query import FoundStudy, Query, StudyQuestion


def find(query: Query, filters: Filters, first: int = 0) -> Iterator[FoundStudy]:
    """All studies, as they come; a study whose parts lie in two days' answers may come twice.

    Raises:
        PeerFailed: If the peer does not answer to the end.
        PeerRefused: If it does not answer such questions.
    """
    for number in range(first, filters.question_count):
        yield from answers(query, filters, number)


def answers(query: Query, filters: Filters, number: int) -> Iterator[FoundStudy]:
    """The studies that answer one question, each once. Raises as ``find`` does."""
    studies = _once(query, filters, number)
    if not filters.body_part:
        yield from studies
        return
    # One question at a time on an association: those of a day are held until all of them are there.
    for study in list(studies):
        if any(map(filters.wants_series, query.series(study.study_instance_uid))):
            yield study


def _once(query: Query, filters: Filters, number: int) -> Iterator[FoundStudy]:
    seen = set()
    for question in filters.question(number):
        for study in _by_hours_if_too_many(query, question):
            if study.study_instance_uid not in seen and filters.wants_study(study):
                seen.add(study.study_instance_uid)
                yield study


def _by_hours_if_too_many(query: Query, question: StudyQuestion) -> Iterator[FoundStudy]:
    try:
        yield from query.studies(question)
    except TooManyMatches:
        if question.first_day is None or question.first_day != question.last_day:
            raise
        for hour in range(24):
            yield from query.studies(replace(question, hours=(hour, hour)))
