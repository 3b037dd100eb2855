"""What an admin sees of this moment, against numbers counted by hand, on both databases."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from service.errors import PeerUnavailable
from service.records import peers_seen, workers
from service.records.database import Records
from service.records.peers_seen import Contact
from service.records.silence import Silence
from service.records.states import AnalysisState, CallState, DeliveryState, PeerKind, StudyState
from service.records.tables import Delivery
from service.records.workers import Saying
from service.settings import Settings
from service.watch import (
    STUDIES,
    DestinationLoad,
    Frame,
    Queue,
    SilentModality,
    Watcher,
    WebhookLoad,
    look,
)
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


def test_who_works_what_is_down_and_who_is_silent_are_told(records: Records, settings: Settings) -> None:
    def contact(took: bool) -> Contact:
        made = Contact()
        if took:
            made.succeeded()
        else:
            made.failed(PeerUnavailable("away"))
        return made

    with records.writing() as session:
        rows = (_sent(1, "A@a:1"), DeliveryRow(DeliveryState.DUE, "B@b:2"))
        write(session, StudyRow((replace(_analysed(2, *rows), calls=(CallState.DUE, CallState.REFUSED)),)))
        for kind, name, took in (
            (PeerKind.DESTINATION, "A@a:1", True),
            (PeerKind.DESTINATION, "B@b:2", False),
            (PeerKind.WEBHOOK, "hook-1", False),
        ):
            peers_seen.note(session, kind, name, contact(took), ago(minutes=7))
        for pid, seconds in ((1, 31), (2, 29)):
            at = ago(seconds=seconds)
            workers.beat(session, None, Saying("analysis", "host", pid, at, "m 1", "GPU", 3, at), at)
    heard = (
        Silence("LOUD", ago(minutes=20), timedelta(minutes=30), 4),
        Silence("MUTE", ago(minutes=61), timedelta(minutes=30), 4),
        Silence("NEW", ago(days=3), None, 1),
    )
    settings.data_dir.mkdir(exist_ok=True)
    with records.snapshot() as session:
        frame = look(session, settings, NOW, heard)
    assert frame.destinations == (
        DestinationLoad("A@a:1", 1, 0, 0, "up"),
        DestinationLoad("B@b:2", 0, 1, 0, "down", ago(minutes=7)),
    )
    assert frame.webhooks == (
        WebhookLoad("hook-0", 1, 0, "nothing sent yet", None),
        WebhookLoad("hook-1", 0, 1, "down", ago(minutes=7)),
    )
    assert [(one.pid, one.state) for one in frame.processes] == [(1, "silent"), (2, "analysing")]
    assert frame.silent == (SilentModality("MUTE", ago(minutes=61), 1800),)
    assert json.loads(json.dumps(frame.as_json()))["silent"][0]["calling_ae_title"] == "MUTE"


def test_a_silent_modality_is_looked_up_now_and_then(
    records: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.data_dir.mkdir(exist_ok=True)
    asked: list[int] = []
    monkeypatch.setattr("service.watch.silences", lambda *_: asked.append(1) or ())
    watcher = Watcher(records, settings)
    assert [watcher.look(NOW).silent for _ in range(3)] == [(), (), ()]
    assert asked == [1]


@pytest.mark.parametrize("free", [False, True])
def test_the_disk_is_told(records: Records, settings: Settings, tmp_path: Path, free: bool) -> None:
    enough = settings.model_copy(update={"minimum_free_bytes": 0 if free else 1 << 62})
    frame = _look(records, enough)
    assert (frame.free_bytes >= frame.minimum_free_bytes) is free
