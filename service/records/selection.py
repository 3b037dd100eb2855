"""Which studies an admin means: by name, by where they stand, by when, by what was found; paged by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, func, literal, literal_column, not_, or_, select, true
from sqlalchemy.orm import Session, aliased

from service.errors import SettingsError
from service.records.database import Records
from service.records.forwarding import has_forward
from service.records.overview import ENDED, Outcome, study_called
from service.records.states import AnalysisState, DeliveryState, InstanceState, StudyState
from service.records.tables import Analysis, Delivery, Finding, Instance, Result, Study, WebhookCall

PAGE: Final = 500
_UNDELIVERED: Final = (DeliveryState.DUE, DeliveryState.REFUSED)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions on studies; a study is meant where all of those that are given hold.

    Attributes:
        studies: Study Instance UIDs, beginnings of them, or accession numbers.
        accession_numbers: The same as a list, however long.
        states: Where they stand, in the words of ``overview``; ``conflict`` besides.
        since: Received (the last receiving period began) then or later.
        until: Then or earlier.
        study_dates_from: Study Date, ``YYYYMMDD``, then or later.
        study_dates_to: Then or earlier.
        model: Version of the model that the newest analysis is by, or its id and version.
        label: Reported in the newest analysis.
        minimum_score: Of that label.
        destination: Something of the newest analysis, or an image, goes there; ``AET@HOST:PORT``.
    """

    studies: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    study_dates_from: str = ""
    study_dates_to: str = ""
    model: str = ""
    label: str = ""
    minimum_score: float = 0.0
    destination: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.states) - set(STATES)
        if unknown:
            raise SettingsError(f"no such state: {', '.join(sorted(unknown))}; there are {', '.join(STATES)}")
        if self.minimum_score and not self.label:
            raise SettingsError("a minimum score is one of a label: name the label, too")

    def __bool__(self) -> bool:
        """Whether it says anything at all; if not, it means every study."""
        return any(getattr(self, one.name) for one in fields(self))

    def as_json(self) -> dict[str, Any]:
        """What was given, for a record of it; of a long list of accession numbers how many."""
        given = {key: value for key, value in asdict(self).items() if value}
        if len(self.accession_numbers) > PAGE:
            given["accession_numbers"] = f"{len(self.accession_numbers)} of them"
        return {key: str(value) if isinstance(value, datetime) else value for key, value in given.items()}

    def pages(self, records: Records, size: int = PAGE) -> Iterator[list[int]]:
        """The ids of the studies that are meant, in pages, each of them a transaction of its own.

        Raises:
            NeverAgain: If a study that is named is not there, or a beginning means more than one.
        """
        # In parts: a database takes only so many values in one statement.
        if self.studies:
            for names in _parts(self.studies):
                with records.reading() as session:
                    ids = [study_called(session, name) for name in names]
                yield from self._pages(records, Study.id.in_(ids), size)
        elif self.accession_numbers:
            for numbers in _parts(self.accession_numbers):
                yield from self._pages(records, Study.accession_number.in_(numbers), size)
        else:
            yield from self._pages(records, true(), size)

    def _pages(self, records: Records, among: ColumnElement[bool], size: int) -> Iterator[list[int]]:
        chosen = select(Study.id).where(*self.conditions(), among).order_by(Study.id).limit(size)
        after = 0
        while True:
            with records.reading() as session:
                page = list(session.scalars(chosen.where(Study.id > after)))
            if not page:
                return
            yield page
            after = page[-1]

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions on ``Study``, all but its name."""
        given: list[ColumnElement[bool]] = []
        if self.states:
            given.append(or_(*(STATES[state] for state in self.states)))
        if self.since is not None:
            given.append(Study.receiving_since >= self.since)
        if self.until is not None:
            given.append(Study.receiving_since <= self.until)
        if self.study_dates_from:
            given.append(Study.study_date >= self.study_dates_from)
        if self.study_dates_to:
            given.append(and_(Study.study_date <= self.study_dates_to, Study.study_date != ""))
        if self.model:
            given.append(self._by_model())
        if self.label:
            given.append(self._found())
        if self.destination:
            goes = (_by_value(Delivery.destination) == self.destination,)
            given.append(or_(_delivery(*goes), has_forward(*goes)))
        return given

    def _by_model(self) -> ColumnElement[bool]:
        named = Analysis.model_id + literal(" ") + Analysis.model_version
        return _current(or_(Analysis.model_version == self.model, named == self.model))

    def _found(self) -> ColumnElement[bool]:
        return _there_is(
            Finding.analysis_id == newest_analysis(),
            Finding.label == self.label,
            Finding.score >= self.minimum_score,
            Finding.reported.is_(True),
        )


def not_recorded(session: Session, uids: Sequence[str]) -> list[str]:
    """Those of these Study Instance UIDs, each once, of which there is no study; a beginning is none."""
    there: set[str] = set()
    for some in _parts(tuple(uids)):
        there.update(
            session.scalars(select(Study.study_instance_uid).where(Study.study_instance_uid.in_(some)))
        )
    return [uid for uid in dict.fromkeys(uids) if uid not in there]


def _by_value(column: Any) -> Any:
    """A column out of sight of SQLite's planner.

    Without statistics it takes ``state = …`` for a rare thing, and goes through all rows in that state
    instead of those of the study at hand.
    """
    return func.coalesce(column, "")


def newest_analysis() -> Any:
    """The id of the newest analysis of ``Study``."""
    analysis = aliased(Analysis)
    newest = select(func.max(analysis.id)).where(analysis.study_id == Study.id, analysis.counts)
    return newest.correlate(Study).scalar_subquery()


def _there_is(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """EXISTS, in words that have it asked study by study.

    PostgreSQL would make a join of an EXISTS, and go through the rows of all studies for the sake of a page.
    """
    one: Select[int] = select(literal_column("1")).where(*conditions).limit(1)
    return one.correlate(Study).scalar_subquery().is_not(None)


def _current(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return _there_is(Analysis.id == newest_analysis(), *conditions)


def _delivery(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return _there_is(Result.analysis_id == newest_analysis(), Delivery.result_id == Result.id, *conditions)


def _sends(*states: str) -> ColumnElement[bool]:
    """Whether a delivery or a webhook call of the newest analysis, or an image's, is in one of the states."""
    delivery, call = _by_value(Delivery.state).in_(states), _by_value(WebhookCall.state).in_(states)
    told = _there_is(WebhookCall.analysis_id == newest_analysis(), call)
    return or_(_delivery(delivery), has_forward(delivery), told)


def _states() -> Mapping[str, ColumnElement[bool]]:
    """By their words in ``overview``; a study is in one of them, and in conflict besides."""
    no_analysis = not_(_there_is(Analysis.study_id == Study.id, Analysis.counts.is_(True)))
    receiving = or_(Study.state == StudyState.RECEIVING, no_analysis)
    complete = _by_value(Study.state) == StudyState.COMPLETE.value
    done = and_(complete, _current(Analysis.state == AnalysisState.DONE))
    ended = and_(complete, _current(Analysis.state.in_(ENDED)))
    goes_somewhere, refused = _delivery(), _sends(DeliveryState.REFUSED.value)
    unfinished = _sends(*(state.value for state in _UNDELIVERED))
    not_applicable = AnalysisState.NOT_APPLICABLE
    in_conflict = _there_is(Instance.study_id == Study.id, Instance.state == InstanceState.CONFLICT)
    by_analysis = {
        state.value: and_(complete, _current(Analysis.state == state))
        for state in AnalysisState
        if state is not AnalysisState.DONE
    }
    return {
        StudyState.RECEIVING.value: receiving,
        **by_analysis,
        not_applicable.value: and_(by_analysis[not_applicable], not_(unfinished)),
        AnalysisState.DONE.value: and_(done, not_(goes_somewhere), not_(unfinished)),
        Outcome.DELIVERING.value: and_(ended, unfinished, not_(refused)),
        Outcome.DELIVERED.value: and_(done, goes_somewhere, not_(unfinished)),
        Outcome.REFUSED.value: and_(ended, refused),
        InstanceState.CONFLICT.value: in_conflict,
    }


STATES: Final = _states()


def _parts(names: tuple[str, ...]) -> Iterator[list[str]]:
    once = list(dict.fromkeys(names))
    return (once[start : start + PAGE] for start in range(0, len(once), PAGE))
