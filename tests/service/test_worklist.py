"""Pages of the list hold what the selection means, in order, each study once. On both databases."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from service.records import figures, worklist
from service.records.database import Records
from service.records.dossier import dossier_of
from service.records.selection import STATES, Selection
from service.records.states import AnalysisState, DeliveryState, InstanceState, Priority, StudyState
from service.records.tables import Analysis, Finding, Study
from service.records.worklist import Key, Page, page_of
from tests.service.study_rows import NOW, AnalysisRow, DeliveryRow, ImageRow, StudyRow, ago, write

COUNT = 48
SELECTIONS = [
    Selection(),
    *(Selection(states=(state,)) for state in STATES),
    Selection(states=("failed", "refused")),
    Selection(since=ago(hours=30)),
    Selection(until=ago(hours=30)),
    Selection(since=ago(hours=40), until=ago(hours=10), states=("delivered",)),
    Selection(study_dates_from="20260105", study_dates_to="20260110"),
    Selection(study_dates_to="20260104"),
    Selection(label="Edema"),
    Selection(label="Edema", minimum_score=0.5),
    Selection(label="COPD", states=("delivered",)),
    Selection(model="model 1"),
    Selection(model="2"),
    Selection(destination="PACS@host:104"),
    Selection(destination="OTHER@host:104", states=("refused",)),
    Selection(accession_numbers=("A7", "A9")),
]


@pytest.fixture
def many(records: Records) -> Records:
    """Studies of all states; several were received at the same moment."""
    chance = random.Random(7)
    deliveries = [DeliveryState.SENT, DeliveryState.DUE, DeliveryState.REFUSED, DeliveryState.WITHDRAWN]
    with records.writing() as session:
        for number in range(COUNT):
            state = chance.choice([AnalysisState.DONE] * 7 + list(AnalysisState))
            to = tuple(
                DeliveryRow(chance.choice(deliveries), chance.choice(["PACS@host:104", "OTHER@host:104"]))
                for _ in range(chance.randrange(3))
            )
            former = [AnalysisRow(AnalysisState.SUPERSEDED)] * chance.randrange(2)
            newest = AnalysisRow(state, to if state is AnalysisState.DONE else ())
            analyses = (*former, newest) if chance.random() < 0.9 else ()
            conflict = InstanceState.CONFLICT if chance.random() < 0.1 else InstanceState.STORED
            row = StudyRow(
                analyses=analyses,
                images=(ImageRow(state=conflict),),
                state=chance.choice([StudyState.COMPLETE] * 5 + [StudyState.RECEIVING]),
                received_at=ago(hours=number // 3 * 3),
                accession_number=f"A{number % 20}",
            )
            uid = write(session, row, f"1.2.{number}")
            study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
            study.study_date = f"202601{number % 15 + 1:02d}"
            for analysis in study.analyses:
                for image in analysis.images:
                    image.findings = [
                        _finding(label, chance) for label in ("Edema", "COPD") if chance.random() < 0.4
                    ]
    return records


def _finding(label: str, chance: random.Random) -> Finding:
    return Finding(label=label, score=chance.random(), position=0, reported=chance.random() < 0.8)


def _walk(records: Records, selection: Selection) -> Iterator[Page]:
    after: Key | None = None
    for _ in range(1000):
        with records.snapshot() as session:
            page = page_of(session, selection, after)
        yield page
        if page.after is None:
            return
        assert after is None or page.after < after
        after = page.after
    raise AssertionError("it does not end")


def _expected(records: Records, selection: Selection) -> list[str]:
    """By the way that actions take, put in order here."""
    ids = list(itertools.chain.from_iterable(selection.pages(records)))
    with records.reading() as session:
        studies = session.scalars(select(Study).where(Study.id.in_(ids))).all()
        ordered = sorted(studies, key=lambda study: (study.receiving_since, study.id), reverse=True)
        return [study.study_instance_uid for study in ordered]


@pytest.mark.parametrize("few", [1000, 3, 0], ids=["by index", "some by index", "gone through"])
def test_pages_hold_what_is_meant_in_order(many: Records, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(worklist, "ROWS", 4)
    monkeypatch.setattr(worklist, "_FEW", few)
    monkeypatch.setattr(worklist, "_FEW_DAYS", few and 100_000)
    monkeypatch.setattr(worklist, "_STRIDES", (2, 5))
    monkeypatch.setattr(worklist, "_STRIDES_OF_FEW", (3, 100_000))
    unmet = []
    for selection in SELECTIONS:
        pages = list(_walk(many, selection))
        listed = [row.study.study_instance_uid for page in pages for row in page.rows]
        assert listed == _expected(many, selection), selection
        assert all(len(page.rows) <= 4 for page in pages)
        unmet += [] if listed else [selection]
    assert len(unmet) < 4, unmet


def test_a_long_search_says_how_far_it_came(many: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "_STRIDES", (2, 5))
    with many.reading() as session:
        page = page_of(session, Selection(model="none"))
        newest_first = select(Study).order_by(Study.receiving_since.desc(), Study.id.desc())
        seventh = session.scalars(newest_first).all()[6]
    assert page.rows == ()
    assert page.searched_to == seventh.receiving_since
    assert page.after == (seventh.receiving_since, seventh.id)


@pytest.mark.parametrize(("name", "met"), [("1.2.3", 11), ("A3", 3), ("1.2.35", 1), ("1.3", 0), ("1_2", 0)])
def test_a_name_may_be_a_beginning(
    many: Records, monkeypatch: pytest.MonkeyPatch, name: str, met: int
) -> None:
    for few in (worklist._FEW, 0):
        monkeypatch.setattr(worklist, "_FEW", few)
        with many.reading() as session:
            assert len(page_of(session, Selection(studies=(name,))).rows) == met


def test_numbers_of_today_and_of_the_queue(records: Records) -> None:
    queued, running, done = AnalysisState.QUEUED, AnalysisState.RUNNING, AnalysisState.DONE
    with records.writing() as session:
        for received, *states in (
            (ago(hours=1), done),
            (ago(hours=2), done, queued),
            (ago(hours=3),),
            (ago(hours=3), running),
            (ago(days=2), queued),
        ):
            rows = tuple(AnalysisRow(state, created_at=received) for state in states)
            write(session, StudyRow(rows, received_at=received))
        oldest = session.scalars(select(Analysis).order_by(Analysis.created_at)).first()
        assert oldest is not None
        oldest.priority = Priority.BACKLOG
    with records.reading() as session:
        assert figures.today(session, ago(hours=12)) == {"done": 1, "queued": 1, "receiving": 1, "running": 1}
        lines = figures.queue(session)
    assert [(line.priority, line.queued, line.running) for line in lines] == [
        (Priority.ROUTINE, 1, 1),
        (Priority.BACKLOG, 1, 0),
    ]
    assert [line.oldest for line in lines] == [ago(hours=3), ago(days=2)]


def test_destinations_are_those_set_up_and_those_that_wait(records: Records) -> None:
    sent, due, refused = DeliveryState.SENT, DeliveryState.DUE, DeliveryState.REFUSED
    rows = (
        DeliveryRow(sent, "A@a:1", made_at=ago(hours=5)),
        DeliveryRow(sent, "A@a:1", made_at=ago(hours=2)),
        DeliveryRow(due, "B@b:1", error="does not answer"),
        DeliveryRow(refused, "B@b:1", error="0xA700"),
        DeliveryRow(sent, "FORMER@c:1"),
    )
    with records.writing() as session:
        write(session, StudyRow((AnalysisRow(AnalysisState.DONE, rows),)))
    with records.reading() as session:
        lines = figures.destinations(session, ("A@a:1", "NEW@d:1"))
    assert [(line.destination, line.waiting, line.refused) for line in lines] == [
        ("A@a:1", 0, 0),
        ("NEW@d:1", 0, 0),
        ("B@b:1", 1, 1),
    ]
    assert [line.last_delivered for line in lines] == [ago(hours=2), None, None]
    assert [line.last_error for line in lines] == ["", "", "0xA700"]


def test_what_was_tried_last_is_told_however_much_waits_behind_it(records: Records) -> None:
    due = DeliveryState.DUE
    untried = tuple(DeliveryRow(due, "A@a:1", made_at=ago(hours=3, seconds=-number)) for number in range(150))
    tried = tuple(
        DeliveryRow(due, "A@a:1", error=f"after {minutes}", made_at=ago(minutes=minutes))
        for minutes in (9, 5, 7)
    )
    image = ImageRow(received_at=ago(hours=2), forwards=(DeliveryRow(due, "B@b:1"),))
    with records.writing() as session:
        write(session, StudyRow((AnalysisRow(AnalysisState.DONE, (*untried, *tried)),), images=(image,)))
    with records.reading() as session:
        a, b = figures.destinations(session, ("A@a:1", "B@b:1"))
    assert (a.waiting, a.oldest, a.last_error) == (153, ago(hours=3), "after 5")
    assert (b.waiting, b.oldest, b.last_error) == (1, ago(hours=2), "")


def test_a_dossier_has_all_analyses_newest_first_and_a_timeline(records: Records) -> None:
    sent = DeliveryRow(DeliveryState.SENT, made_at=ago(hours=3))
    first = AnalysisRow(AnalysisState.SUPERSEDED, (sent,), created_at=ago(hours=5))
    second = AnalysisRow(AnalysisState.FAILED, created_at=ago(hours=2), error="broke off", attempt=5)
    with records.writing() as session:
        uid = write(session, StudyRow((first, second), received_at=ago(hours=6)))
    with records.reading() as session:
        whole = dossier_of(session, uid)
    assert [one.state for one in whole.analyses] == ["failed", "superseded"]
    assert [len(one.results) for one in whole.analyses] == [0, 1]
    assert whole.analyses[0].error == "broke off"
    assert len(whole.reasons) == 1
    moments = whole.timeline()
    assert [one.at for one in moments] == sorted(one.at for one in moments)
    assert {ago(hours=6), ago(hours=5), ago(hours=3), ago(hours=2)} <= {one.at for one in moments}
    assert moments[-1].at <= NOW + timedelta(0)
