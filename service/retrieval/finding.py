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
    """The studies that answer one question, each once. Raises as ``find`` does.

    A body part stands in series alone, and so do the modalities where a peer leaves out Modalities in Study:
    such studies are asked about one by one.
    """
    held = []
    for study in _once(query, filters, number):
        if filters.body_part or not study.modalities:
            held.append(study)
        else:
            yield study
    # One question at a time on an association: these wait until the answers have come to their end.
    for study in held:
        series = [one for one in query.series(study.study_instance_uid) if filters.wants_series(one)]
        if series:
            modalities = study.modalities or tuple(sorted({one.modality for one in series}))
            yield replace(study, modalities=modalities)


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
