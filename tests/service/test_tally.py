"""What the records are counted to, against cases worked out by hand, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.errors import PeerUnavailable
from service.peers import Destination
from service.records import peers_seen, tally, workers
from service.records.database import Records, utc_now
from service.records.peers_seen import Contact
from service.records.states import AnalysisState, DeliveryState, InstanceState, PeerKind, StudyState
from service.records.tables import Analysis, AnalysisImage, Delivery, Finding, WebhookCall
from service.records.tally import FindingsOf, Stored
from service.records.workers import Saying
from service.rules.rulebook import Rulebook, Rules
from service.settings import Settings, load_settings
from service.web.collectors import RecordsCollector
from tests.scrape import Scrape
from tests.service.receivers import SECRET
from tests.service.study_rows import NOW, AnalysisRow, DeliveryRow, ImageRow, StudyRow, ago, write

PACS = "PACS@host:104"
FORMER = "FORMER@host:104"


@pytest.fixture
def filled(records: Records) -> Iterator[Records]:
    """Seven studies, each for something that is counted."""
    sent = DeliveryRow(DeliveryState.SENT)
    rows = [
        StudyRow(state=StudyState.RECEIVING),
        StudyRow((AnalysisRow(AnalysisState.QUEUED, created_at=ago(minutes=5)),)),
        StudyRow((AnalysisRow(AnalysisState.RUNNING, created_at=ago(minutes=20)),)),
        # Older than all that wait, but done: its delivery waits.
        StudyRow(
            (
                AnalysisRow(
                    AnalysisState.DONE,
                    (
                        DeliveryRow(DeliveryState.DUE, made_at=ago(hours=2)),
                        DeliveryRow(DeliveryState.DUE, made_at=ago(hours=1)),
                        DeliveryRow(DeliveryState.DUE, FORMER, made_at=ago(hours=3)),
                        sent,
                    ),
                    created_at=ago(days=1),
                ),
            ),
            images=(ImageRow(), ImageRow("lateral view"), ImageRow(state=InstanceState.CONFLICT)),
        ),
        StudyRow((AnalysisRow(AnalysisState.FAILED),)),
        # Failed once; a newer image has been analysed since.
        StudyRow((AnalysisRow(AnalysisState.FAILED), AnalysisRow(AnalysisState.DONE, (sent,)))),
        # The other way round.
        StudyRow((AnalysisRow(AnalysisState.DONE), AnalysisRow(AnalysisState.FAILED))),
    ]
    with records.writing() as session:
        for row in rows:
            write(session, row)
    yield records


def test_what_moves(filled: Records) -> None:
    with filled.snapshot() as session:
        flow = tally.flow(session)
    assert flow.studies == {"receiving": 1, "complete": 6}
    assert flow.analyses == {"queued": 1, "running": 1, "done": 3, "failed": 3}
    assert flow.quarantined == 2
    assert flow.oldest_waiting == ago(minutes=20)
    assert flow.oldest_due == {PACS: ago(hours=2), FORMER: ago(hours=3)}
    assert flow.uncommitted == {}


def test_what_destinations_have_still_to_commit_to(filled: Records, settings: Settings) -> None:
    with filled.writing() as session:
        session.execute(update(Delivery).where(Delivery.state == "sent").values(commitment_due_at=NOW))
    told = _told(filled, settings.model_copy(update={"destinations": (Destination.parse(PACS),)}))
    assert told("litegpt_uncommitted", destination=PACS) == 2
    with filled.reading() as session:
        oldest = session.scalar(select(func.min(Delivery.sent_at)).where(Delivery.state == "sent"))
    age = told("litegpt_oldest_uncommitted_seconds", destination=PACS)
    assert oldest is not None and abs(age - (utc_now() - oldest).total_seconds()) < 60
    told = _told(filled, settings.model_copy(update={"destinations": ()}))
    assert told("litegpt_uncommitted", destination="other") == 2


def test_what_has_come_together(filled: Records) -> None:
    with filled.snapshot() as session:
        stock = tally.stock(session)
    assert stock.stored == {"stored": Stored(8, 8), "conflict": Stored(1, 1)}
    assert stock.deliveries == {(PACS, "due"): 2, (FORMER, "due"): 1, (PACS, "sent"): 2}
    assert stock.findings == ()


def test_findings_are_told_apart_by_label_and_by_whether_they_are_reported(filled: Records) -> None:
    said = [("Cardiomegaly", True)] * 3 + [("Cardiomegaly", False)] * 2 + [("Nodule/Mass", False)]
    with filled.writing() as session:
        analysis_id, instance_id = _an_analysed_image(session)
        for position, (label, reported) in enumerate(said):
            found = Finding(position=position, label=label, score=0.5, reported=reported)
            found.analysis_id, found.instance_id = analysis_id, instance_id
            session.add(found)
    with filled.snapshot() as session:
        findings = tally.stock(session).findings
    assert set(findings) == {
        FindingsOf("model", "1", "Cardiomegaly", True, 3),
        FindingsOf("model", "1", "Cardiomegaly", False, 2),
        FindingsOf("model", "1", "Nodule/Mass", False, 1),
    }


def _an_analysed_image(session: Session) -> tuple[int, int]:
    image = session.scalars(select(AnalysisImage).limit(1)).one()
    return image.analysis_id, image.instance_id


def test_destinations_that_are_not_configured_are_one(filled: Records, settings: Settings) -> None:
    told = _told(filled, settings.model_copy(update={"destinations": ()}))
    assert told("litegpt_deliveries", destination="other", state="due") == 3
    assert {dict(labels)["destination"] for labels in told.all_of("litegpt_deliveries")} == {"other"}
    age = told("litegpt_oldest_undelivered_seconds", destination="other")
    assert age == pytest.approx((utc_now() - ago(hours=3)).total_seconds(), abs=60)


def test_workers_and_what_is_down_are_told(records: Records, settings: Settings) -> None:
    now = utc_now()
    told = load_settings(
        data_dir=settings.data_dir,
        destinations=[PACS, "NEW@host:104"],
        webhooks={name: {"url": "https://h/", "secret": SECRET} for name in ("a", "b")},
    )
    away = Contact()
    away.failed(PeerUnavailable("away"))
    with records.writing() as session:
        for name in (PACS, FORMER):
            peers_seen.note(session, PeerKind.DESTINATION, name, away, now)
        peers_seen.note(session, PeerKind.WEBHOOK, "a", away, now)
        for part, host, pid, seconds in (
            ("analysis", "h1", 1, 5),
            ("analysis", "h1", 2, 90),
            ("analysis", "h2", 1, 4),
            ("delivery", "h1", 3, 3),
        ):
            at = now - timedelta(seconds=seconds)
            workers.beat(session, None, Saying(part, host, pid, at), at)
        write(session, StudyRow((AnalysisRow(AnalysisState.DONE, created_at=ago(hours=1)),)))
        analysis_id = session.scalars(select(Analysis.id)).one()
        for name, hours in (("a", 2), ("gone", 3), ("former", 4)):
            at = now - timedelta(hours=hours)
            session.add(WebhookCall(analysis_id=analysis_id, webhook=name, not_before=at, created_at=at))
    scrape = _told(records, told)

    def by_label(name: str) -> dict[str, float]:
        return {value: number for labels, number in scrape.all_of(name).items() for _, value in labels}

    assert by_label("litegpt_destination_up") == {PACS: 0, "NEW@host:104": 1}
    assert by_label("litegpt_webhook_up") == {"a": 0, "b": 1}
    beats = {
        (dict(labels)["host"], dict(labels)["part"]): now.timestamp() - at
        for labels, at in scrape.all_of("litegpt_worker_last_beat_timestamp_seconds").items()
    }
    assert beats == {
        ("h1", "analysis"): pytest.approx(90, abs=0.01),
        ("h2", "analysis"): pytest.approx(4, abs=0.01),
        ("h1", "delivery"): pytest.approx(3, abs=0.01),
    }
    assert by_label("litegpt_oldest_webhook_call_seconds") == {
        "a": pytest.approx(7200, abs=60),
        "b": 0,
        "other": pytest.approx(14400, abs=60),
    }


def test_a_scrape_looks_at_the_rules_once(filled: Records, settings: Settings) -> None:
    asked: list[int] = []

    class Counting(Rulebook):
        def rules(self) -> Rules:
            asked.append(1)
            return super().rules()

    registry = CollectorRegistry()
    registry.register(RecordsCollector(settings, filled, Counting(settings)))
    generate_latest(registry)
    assert asked == [1]


def test_ages_are_of_this_moment(records: Records, settings: Settings) -> None:
    with records.writing() as session:
        born = utc_now() - timedelta(minutes=7)
        write(session, StudyRow((AnalysisRow(AnalysisState.QUEUED, created_at=born),)))
    told = _told(records, settings)
    assert told("litegpt_oldest_waiting_analysis_seconds") == pytest.approx(420, abs=60)
    assert told("litegpt_records_up") == 1


def test_records_that_are_away_are_told_and_not_waited_for(settings: Settings, records: Records) -> None:
    nowhere = settings.model_copy(update={"database_url": "sqlite:////nowhere/at/all.sqlite"})
    away = Records.open(nowhere)
    try:
        told = _told(away, nowhere)
    finally:
        away.close()
    assert told.names == {"litegpt_records_up"}
    assert told("litegpt_records_up") == 0


def _told(records: Records, settings: Settings) -> Scrape:
    registry = CollectorRegistry()
    registry.register(RecordsCollector(settings, records, Rulebook(settings)))
    return Scrape(generate_latest(registry).decode())
