"""What an admin sees of this moment, against numbers counted by hand, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from service.records.database import Records
from service.records.states import AnalysisState, DeliveryState, StudyState
from service.records.tables import Delivery
from service.settings import Settings
from service.watch import STUDIES, DestinationLoad, Frame, Queue, look
from tests.service.study_rows import NOW, AnalysisRow, DeliveryRow, ImageRow, StudyRow, ago, write


def _look(records: Records, settings: Settings) -> Frame:
    settings.data_dir.mkdir(exist_ok=True)
    with records.snapshot() as session:
        return look(session, settings, NOW)


def _at(minutes: float) -> ImageRow:
    return ImageRow(received_at=ago(minutes=minutes))


def _analysed(minutes: float, *deliveries: DeliveryRow, state: str = "done") -> AnalysisRow:
    at = ago(minutes=minutes)
    return AnalysisRow(AnalysisState(state), deliveries, created_at=at, finished_at=at)


def _sent(minutes: float, to: str) -> DeliveryRow:
    return DeliveryRow(DeliveryState.SENT, to, made_at=ago(minutes=minutes))


def test_nothing_is_nothing(records: Records, settings: Settings) -> None:
    frame = _look(records, settings)
    assert (frame.rates.received, frame.rates.analysed, frame.rates.delivered) == (0, 0, 0)
    assert frame.queue == Queue(0, 0, 0, None)
    assert (frame.destinations, frame.studies) == ((), ())
    assert frame.free_bytes > 0 and not frame.sweeper_beats


def test_rates_are_of_the_last_minutes_alone(records: Records, settings: Settings) -> None:
    long_ago = StudyRow((_analysed(60, _sent(60, "A@a:1")),), (_at(60), _at(5.1)), received_at=ago(hours=1))
    lately = StudyRow(
        (_analysed(4, _sent(3, "A@a:1"), _sent(2, "B@b:2"), _sent(5.1, "C@c:3")),),
        (_at(4.9), _at(4)),
        received_at=ago(minutes=4),
    )
    not_applicable = StudyRow((_analysed(1, state="not-applicable"),), (_at(1),), received_at=ago(minutes=1))
    failed = StudyRow((_analysed(1, state="failed"),), (_at(1),), received_at=ago(minutes=1))
    with records.writing() as session:
        for row in (long_ago, lately, not_applicable, failed):
            write(session, row)
        # As the lease under which each was sent leaves it: it may end long after.
        session.execute(update(Delivery).values(not_before=NOW))
    frame = _look(records, settings)
    assert (frame.rates.received, frame.rates.analysed, frame.rates.delivered) == (4 / 5, 2 / 5, 2 / 5)
    assert frame.destinations == (DestinationLoad("A@a:1", 1, 0, 0), DestinationLoad("B@b:2", 1, 0, 0))


def test_what_waits_is_counted_however_old(records: Records, settings: Settings) -> None:
    def made(state: str, minutes: float) -> AnalysisRow:
        return AnalysisRow(AnalysisState(state), created_at=ago(minutes=minutes))

    def to(destination: str, state: str) -> DeliveryRow:
        return DeliveryRow(DeliveryState(state), destination, made_at=ago(days=9))

    rows = [
        StudyRow((made("queued", 50),)),
        StudyRow((made("queued", 700),)),
        StudyRow((made("running", 800),)),
        StudyRow(state=StudyState.RECEIVING),
        StudyRow((_analysed(9000, to("B@b:2", "due"), to("B@b:2", "refused"), to("A@a:1", "due")),)),
        StudyRow((_analysed(9000, to("B@b:2", "due"), to("C@c:3", "withdrawn")),)),
    ]
    with records.writing() as session:
        for row in rows:
            write(session, row)
    frame = _look(records, settings)
    assert frame.queue == Queue(receiving=1, waiting=2, running=1, oldest=ago(minutes=800))
    assert frame.destinations == (DestinationLoad("A@a:1", 0, 1, 0), DestinationLoad("B@b:2", 0, 2, 1))


def test_the_last_studies_are_listed_newest_first_whatever_their_state(
    records: Records, settings: Settings
) -> None:
    uids = []
    with records.writing() as session:
        for minutes in range(STUDIES + 4):
            state = StudyState.RECEIVING if minutes % 3 else StudyState.COMPLETE
            done = (_analysed(minutes),) if state is StudyState.COMPLETE else ()
            at = ago(minutes=minutes)
            row = StudyRow(done, (_at(minutes), _at(minutes + 1)), state, at, f"A{minutes}")
            uids.append(write(session, row))
    studies = _look(records, settings).studies
    assert [study.study_instance_uid for study in studies] == uids[:STUDIES]
    first, second = studies[0], studies[1]
    assert (first.state, second.state) == ("done", "receiving")
    assert (first.accession_number, first.images, first.received_at) == ("A0", 2, NOW)


@pytest.mark.parametrize("free", [False, True])
def test_the_disk_is_told(records: Records, settings: Settings, tmp_path: Path, free: bool) -> None:
    enough = settings.model_copy(update={"minimum_free_bytes": 0 if free else 1 << 62})
    frame = _look(records, enough)
    assert (frame.free_bytes >= frame.minimum_free_bytes) is free
