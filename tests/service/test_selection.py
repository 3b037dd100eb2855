"""Which studies filters mean: against the words of the overview, and by hand, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from service.errors import NeverAgain, SettingsError
from service.records import overview
from service.records.database import Records
from service.records.selection import STATES, Selection
from service.records.states import AnalysisState, DeliveryState, InstanceState, StudyState
from service.records.tables import Analysis, Finding, Study
from tests.service.study_rows import NOW, AnalysisRow, DeliveryRow, StudyRow, ago, write
from tests.service.test_reconcile import CASES

DONE = AnalysisRow(AnalysisState.DONE, (DeliveryRow(DeliveryState.SENT),))


def _write(records: Records, *rows: StudyRow) -> list[str]:
    with records.writing() as session:
        return [write(session, row) for row in rows]


def _meant(records: Records, selection: Selection, size: int = 3) -> list[str]:
    """The studies' UIDs, in the order of the pages."""
    ids = [study_id for page in selection.pages(records, size) for study_id in page]
    with records.reading() as session:
        uids = {row.id: row.study_instance_uid for row in session.scalars(select(Study))}
    return [uids[study_id] for study_id in ids]


def test_a_state_means_what_the_list_of_studies_says(records: Records) -> None:
    """Every study is in the one state that ``studies`` shows for it, however it came there."""
    uids = _write(records, *(case[0] for case in CASES.values()))
    with records.reading() as session:
        shown = {view.study_instance_uid: view.outcome for view in overview.list_studies(session, 1000)}
    assert set(shown) == set(uids)
    for state in STATES:
        if state != InstanceState.CONFLICT:
            meant = _meant(records, Selection(states=(state,)))
            assert set(meant) == {uid for uid in uids if shown[uid] == state}, state
            assert len(meant) == len(set(meant))


def test_a_conflict_is_meant_whatever_else_the_study_is(records: Records) -> None:
    names = list(CASES)
    uids = _write(records, *(case[0] for case in CASES.values()))
    meant = _meant(records, Selection(states=("conflict",)))
    assert [names[uids.index(uid)] for uid in meant] == ["conflict", "conflict and receiving"]


def test_conditions_hold_together(records: Records) -> None:
    old, young, late = _write(
        records,
        StudyRow((DONE,), received_at=ago(days=9)),
        StudyRow((DONE,), received_at=ago(days=1)),
        StudyRow(state=StudyState.RECEIVING, received_at=ago(days=1)),
    )
    assert _meant(records, Selection()) == [old, young, late]
    assert _meant(records, Selection(since=ago(days=1))) == [young, late]
    assert _meant(records, Selection(until=ago(days=1, seconds=1))) == [old]
    assert _meant(records, Selection(since=ago(days=9), until=ago(days=9))) == [old]
    assert _meant(records, Selection(since=ago(days=2), states=("delivered",))) == [young]
    assert _meant(records, Selection(states=("delivered", "receiving"))) == [old, young, late]


def test_study_dates_leave_out_what_has_none(records: Records) -> None:
    uids = _write(records, *(StudyRow((DONE,)) for _ in range(3)))
    with records.writing() as session:
        for uid, date in zip(uids, ("20240101", "20240131", ""), strict=True):
            session.execute(update(Study).where(Study.study_instance_uid == uid).values(study_date=date))
    assert _meant(records, Selection(study_dates_from="20240101")) == uids[:2]
    assert _meant(records, Selection(study_dates_from="20240102", study_dates_to="20240131")) == [uids[1]]
    assert _meant(records, Selection(study_dates_to="20240130")) == [uids[0]]


def test_only_the_newest_analysis_counts(records: Records) -> None:
    """What a former model said, and where its results went, is history."""
    there = DeliveryRow(DeliveryState.SENT, "NEW@host:1")
    before, after = _write(
        records,
        StudyRow((DONE,)),
        StudyRow((DONE, AnalysisRow(AnalysisState.DONE, (there,)))),
    )
    with records.writing() as session:
        newest = session.scalars(select(Analysis).order_by(Analysis.id.desc()).limit(1)).one()
        newest.model_version = "2"
        for analysis in session.scalars(select(Analysis)):
            label = "Edema" if analysis.model_version == "1" else "Mass"
            image = analysis.images[0].instance_id
            for position, (score, reported) in enumerate(((0.75, True), (0.9, False))):
                values = {"position": position, "label": label, "score": score, "reported": reported}
                session.add(Finding(analysis_id=analysis.id, instance_id=image, **values))
    assert _meant(records, Selection(model="1")) == [before]
    assert _meant(records, Selection(model="model 2")) == [after]
    assert _meant(records, Selection(model="model 3")) == []
    assert _meant(records, Selection(label="Edema")) == [before]
    assert _meant(records, Selection(label="Mass", minimum_score=0.75)) == [after]
    assert _meant(records, Selection(label="Mass", minimum_score=0.76)) == []
    assert _meant(records, Selection(destination="PACS@host:104")) == [before]
    assert _meant(records, Selection(destination="NEW@host:1")) == [after]


def test_studies_are_named_by_uid_beginning_or_accession_number(records: Records) -> None:
    with records.writing() as session:
        for uid, accession in (("1.2.3", "A-1"), ("1.2.30", "A-2"), ("1.4", "A%"), ("1.5", "A-2")):
            write(session, StudyRow((DONE,), accession_number=accession), uid)
    assert _meant(records, Selection(studies=("1.2.3",))) == ["1.2.3"]
    assert _meant(records, Selection(studies=("1.4", "A-1", "1.4"))) == ["1.2.3", "1.4"]
    assert _meant(records, Selection(studies=("A%",))) == ["1.4"]
    for name, complaint in (("1.2.", "more than one"), ("9", "no"), ("%", "no"), ("A-2", "more than one")):
        with pytest.raises(NeverAgain, match=f"{complaint} study is called"):
            _meant(records, Selection(studies=(name,)))


def test_a_list_of_accession_numbers_may_be_long(records: Records) -> None:
    rows = [StudyRow((DONE,), accession_number=f"A-{number}") for number in range(7)]
    uids = _write(records, *rows, StudyRow((DONE,), accession_number="A-6"), StudyRow((DONE,)))
    numbers = tuple(f"A-{number}" for number in range(5, 70_000))
    meant = _meant(records, Selection(accession_numbers=numbers))
    assert sorted(meant) == sorted([uids[5], uids[6], uids[7]])
    assert Selection(accession_numbers=numbers).as_json() == {"accession_numbers": "69995 of them"}


def test_pages_go_on_over_what_is_changed_between_them(records: Records) -> None:
    uids = _write(records, *(StudyRow(state=StudyState.RECEIVING) for _ in range(7)))
    seen = []
    for page in Selection(states=("receiving",)).pages(records, 2):
        seen += page
        with records.writing() as session:
            session.execute(update(Study).where(Study.id.in_(page)).values(state=StudyState.COMPLETE))
    assert len(seen) == len(set(seen)) == len(uids)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(SettingsError, match="no such state: lost; there are receiving, queued,"):
        Selection(states=("lost", "done"))
    with pytest.raises(SettingsError, match="name the label"):
        Selection(minimum_score=0.5)
    assert not Selection()
    assert Selection(since=NOW - timedelta(days=1))
