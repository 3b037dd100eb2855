"""A page of the studies that a selection means, newest first, in bounded time however many there are.

Where the conditions are rare, the few studies that fulfil one of them are looked up by its index. Where they
are not, studies are gone through from the newest on; after so many the page ends, and says how far it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from service.records.forwarding import studies_with_forward
from service.records.overview import Outcome, StudyView, views_of
from service.records.selection import Selection
from service.records.states import AnalysisState, DeliveryState, InstanceState
from service.records.tables import (
    Analysis,
    Delivery,
    Finding,
    Instance,
    Result,
    Study,
    UTCDateTime,
    WebhookCall,
)

ROWS: Final = 50
REACH: Final = 10_000
"""How many studies are gone through for one page."""

_FEW: Final = 5_000
"""As many may be looked up by the index of one condition."""

_FEW_DAYS: Final = 100_000
"""The same for study dates, which cost next to nothing to compare."""

_OF_UIDS: Final = re.compile(r"[0-9.]+")

_STRIDES: Final = (200, 1_800, REACH - 2_000)
_STRIDES_OF_FEW: Final = (200, _FEW_DAYS)


class Key(NamedTuple):
    """Where a page begins: after the study with this time and id."""

    received_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Row:
    """One study in the list."""

    received_at: datetime
    study: StudyView


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        rows: Newest first.
        after: Where the next page begins; ``None`` where there is none.
        searched_to: Where it ended for having gone through so many: how far back that was.
    """

    rows: tuple[Row, ...]
    after: Key | None
    searched_to: datetime | None = None


def page_of(session: Session, selection: Selection, after: Key | None = None) -> Page:
    """A page of the studies that are meant; a name may be the beginning of a UID, and mean several."""
    conditions = selection.conditions()
    if selection.accession_numbers:
        conditions.append(Study.accession_number.in_(selection.accession_numbers))
    if selection.studies:
        conditions.append(_has_name(selection))
    few = _few(session, selection)
    if few is not None:
        return _page(session, _keys_of_few(session, few, conditions, after))
    found: list[Key] = []
    reached = after
    for stride in _STRIDES:
        begin, reached = reached, _stride_end(session, reached, stride, selection)
        within = [] if reached is None else [_literal(reached) <= _KEY]
        rows = _newest_first([*conditions, *within], begin).limit(ROWS + 1 - len(found))
        found += _keys(session, rows)
        if len(found) > ROWS or reached is None:
            return _page(session, found)
    return Page(_rows(session, found), reached, None if reached is None else reached.received_at)


_KEY: Final = tuple_(Study.receiving_since, Study.id)


def _literal(key: Key) -> Any:
    return tuple_(literal(key.received_at, UTCDateTime()), literal(key.id))


def _newest_first(conditions: Sequence[ColumnElement[bool]], after: Key | None) -> Select[datetime, int]:
    beyond = [] if after is None else [_literal(after) > _KEY]
    rows: Select[datetime, int] = select(Study.receiving_since, Study.id).where(*conditions, *beyond)
    return rows.order_by(Study.receiving_since.desc(), Study.id.desc())


def _keys_of_few(
    session: Session, few: ColumnElement[bool], conditions: Sequence[ColumnElement[bool]], after: Key | None
) -> list[Key]:
    """The next keys of studies that are few: put in order first, then looked at until there is a page."""
    beyond = [] if after is None else [_literal(after) > _KEY]
    # The limit cuts nothing off. It keeps the database from going through all studies in order instead.
    among = select(Study.receiving_since, Study.id).where(few, *beyond).limit(_FEW_DAYS).subquery()
    in_order = select(among).order_by(among.c.receiving_since.desc(), among.c.id.desc())
    found: list[Key] = []
    seen = 0
    for stride in _STRIDES_OF_FEW:
        part = in_order.offset(seen).limit(stride).subquery()
        fulfil = select(part.c.receiving_since, part.c.id).join(Study, Study.id == part.c.id)
        newest = fulfil.where(*conditions).order_by(part.c.receiving_since.desc(), part.c.id.desc())
        found += _keys(session, newest.limit(ROWS + 1 - len(found)))
        seen += stride
        if len(found) > ROWS:
            break
    return found


def _keys(session: Session, rows: Select[datetime, int]) -> list[Key]:
    return [Key(received_at, study_id) for received_at, study_id in session.execute(rows)]


def _stride_end(session: Session, after: Key | None, stride: int, selection: Selection) -> Key | None:
    """The last study of so many; ``None`` where there are no more that can be meant."""
    bounds = []
    if selection.since is not None:
        bounds.append(Study.receiving_since >= selection.since)
    if selection.until is not None:
        bounds.append(Study.receiving_since <= selection.until)
    return next(iter(_keys(session, _newest_first(bounds, after).offset(stride - 1).limit(1))), None)


def _page(session: Session, keys: list[Key]) -> Page:
    return Page(_rows(session, keys[:ROWS]), keys[ROWS - 1] if len(keys) > ROWS else None)


def _rows(session: Session, keys: list[Key]) -> tuple[Row, ...]:
    views = views_of(session, [key.id for key in keys])
    return tuple(Row(key.received_at, views[key.id]) for key in keys)


def _named(session: Session, selection: Selection) -> ColumnElement[bool]:
    begins = [_begins(session, name) for name in selection.studies if _OF_UIDS.fullmatch(name)]
    return or_(Study.accession_number.in_(selection.studies), *begins)


def _has_name(selection: Selection) -> ColumnElement[bool]:
    """The same for studies that are gone through: SQLite would use its indices, and sort all of them."""
    begins = [
        func.substr(Study.study_instance_uid, 1, len(name)) == name
        for name in selection.studies
        if _OF_UIDS.fullmatch(name)
    ]
    return or_(func.coalesce(Study.accession_number, "").in_(selection.studies), *begins)


def _begins(session: Session, name: str) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "sqlite":
        # In the order of bytes, where ":" follows "9"; SQLite has no index for LIKE.
        return Study.study_instance_uid.between(name, f"{name}:")
    # The same for PostgreSQL, whatever order its collation has.
    return and_(
        Study.study_instance_uid.bool_op("~>=~")(name), Study.study_instance_uid.bool_op("~<~")(f"{name}:")
    )


def _few(session: Session, selection: Selection) -> ColumnElement[bool] | None:
    """A condition that few studies fulfil, and that an index finds; ``None`` where there is none."""
    for among, limit in _candidates(session, selection):
        ids = among if isinstance(among, Select) else select(Study.id).where(among)
        fulfil = select(func.count()).select_from(ids.limit(limit + 1).subquery())
        if (session.scalar(fulfil) or 0) <= limit:
            return Study.id.in_(among) if isinstance(among, Select) else among
    return None


def _candidates(
    session: Session, selection: Selection
) -> Iterator[tuple[Select[int] | ColumnElement[bool], int]]:
    """Studies that fulfil a condition of the selection, and perhaps some others, by an index.

    A condition on ``Study`` itself is no list of ids: a database would look every study up in that.
    """
    if selection.studies:
        yield _named(session, selection), _FEW
    if selection.accession_numbers:
        yield Study.accession_number.in_(selection.accession_numbers), _FEW
    if len(selection.states) == 1 and (of_state := _BY_STATE.get(selection.states[0])) is not None:
        yield of_state, _FEW
    if selection.label:
        yield (
            select(Analysis.study_id)
            .join(Finding, Finding.analysis_id == Analysis.id)
            .where(Finding.label == selection.label, Finding.score >= selection.minimum_score),
            _FEW,
        )
    if selection.study_dates_from or selection.study_dates_to:
        last = selection.study_dates_to or "99999999"
        first = selection.study_dates_from or "0"
        yield Study.study_date.between(first, last), _FEW_DAYS


def _with_analysis(state: AnalysisState) -> Select[int]:
    return select(Analysis.study_id).where(Analysis.state == state)


def _with_delivery(state: DeliveryState) -> Select[int]:
    of_results = (
        select(Analysis.study_id)
        .join(Result, Result.analysis_id == Analysis.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Delivery.state == state)
    )
    of_calls = select(Analysis.study_id).join(WebhookCall).where(WebhookCall.state == state.value)
    any_of_them = of_results.union_all(studies_with_forward(state), of_calls).subquery()
    return select(any_of_them.c.study_id)


_BY_STATE: Final = {
    **{state.value: _with_analysis(state) for state in AnalysisState},
    Outcome.DELIVERING.value: _with_delivery(DeliveryState.DUE),
    Outcome.REFUSED.value: _with_delivery(DeliveryState.REFUSED),
    InstanceState.CONFLICT.value: select(Instance.study_id).where(Instance.state == InstanceState.CONFLICT),
}
"""Without ``receiving``, which studies without any analysis count as, too: no index tells those."""
