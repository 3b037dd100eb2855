"""The rows of very many studies, for the pages to show: as years of work would leave them.

Received over three years, one image each, read, and delivered to one destination; a few of them in every
other state. Beside them jobs, workers, and calls of a webhook.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, text

from litegpt.vocabulary import LOCAL_LABELS
from service.records.database import Records, utc_now
from service.records.states import (
    AnalysisState,
    CallState,
    DeliveryState,
    InstanceState,
    JobState,
    PeerKind,
    RetrievalState,
    StudyState,
)
from service.records.tables import (
    Analysis,
    AnalysisImage,
    Delivery,
    Finding,
    Instance,
    PeerSeen,
    Result,
    RetrievalJob,
    RetrievalStudy,
    Study,
    WebhookCall,
    WorkerProcess,
)

_AT_ONCE: Final = 20_000
_YEARS: Final = timedelta(days=3 * 365)
RARE: Final = "Rib fracture"
DESTINATION: Final = "PACS@10.0.0.5:104"
_WEBHOOK: Final = "radiology"
_WORKERS: Final = 8
_MODALITIES: Final = 8
JOBS: Final = 40


@dataclass(frozen=True, slots=True)
class _Fate:
    study: StudyState = StudyState.COMPLETE
    analysis: AnalysisState | None = AnalysisState.DONE
    delivery: DeliveryState | None = DeliveryState.SENT
    instance: InstanceState = InstanceState.STORED


_FATES: Final = (
    (0.9, _Fate()),
    (0.094, _Fate(analysis=AnalysisState.NOT_APPLICABLE, delivery=None)),
    (0.002, _Fate(analysis=AnalysisState.FAILED, delivery=None)),
    (0.001, _Fate(delivery=DeliveryState.REFUSED)),
    (0.001, _Fate(delivery=DeliveryState.DUE)),
    (0.001, _Fate(analysis=AnalysisState.CANCELLED, delivery=None)),
    (0.0009, _Fate(analysis=AnalysisState.QUEUED, delivery=None)),
    (0.0001, _Fate(instance=InstanceState.CONFLICT)),
)
"""Shares of the studies. What has just been received comes on top: the newest 20."""


class Rows:
    """Rows of all tables for some studies, ids counted up from the first."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(20_260_101)
        self._count = count
        self._begin = utc_now() - _YEARS
        self._labels = [label for label in LOCAL_LABELS if label != RARE]

    def received_at(self, number: int) -> datetime:
        return self._begin + _YEARS * (number / self._count)

    def of(self, number: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        at = self.received_at(number)
        fate = self._fate(number)
        base = {"id": number}
        yield (
            Study,
            base
            | {
                "study_instance_uid": f"1.2.826.0.1.3680043.10.{number}",
                "accession_number": f"A{number:08d}",
                "study_date": f"{at:%Y%m%d}",
                "state": fate.study,
                "receiving_since": at,
                "last_eligible_at": at,
                "completed_at": at if fate.study is StudyState.COMPLETE else None,
            },
        )
        yield Instance, _instance(number, at, fate)
        if fate.analysis is None:
            return
        yield Analysis, _analysis(number, at, fate.analysis)
        yield AnalysisImage, {"analysis_id": number, "instance_id": number, "position": 0}
        if fate.analysis is AnalysisState.DONE:
            for position in range(2):
                yield Finding, self._finding(number, position)
        if fate.delivery is not None:
            yield Result, _result(number, at)
            yield Delivery, _delivery(number, at, fate.delivery)
        if fate.analysis is AnalysisState.DONE:
            yield WebhookCall, _call(number, at, fate.delivery)

    def _fate(self, number: int) -> _Fate:
        if number > self._count - 20:
            return _Fate(StudyState.RECEIVING, None, None)
        weights, fates = zip(*_FATES, strict=True)
        chosen: _Fate = self._random.choices(fates, weights)[0]
        return chosen

    def _finding(self, number: int, position: int) -> dict[str, Any]:
        rare = self._random.random() < 0.0005
        return {
            "id": 2 * number + position,
            "analysis_id": number,
            "instance_id": number,
            "position": position,
            "label": RARE if rare else self._random.choice(self._labels),
            "score": self._random.random(),
            "box_score": 0.5,
            "x_min": 10.0,
            "y_min": 10.0,
            "x_max": 400.0,
            "y_max": 300.0,
        }


def _instance(number: int, at: datetime, fate: _Fate) -> dict[str, Any]:
    return {
        "id": number,
        "study_id": number,
        "sop_instance_uid": f"1.2.826.0.1.3680043.11.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "series_instance_uid": "1.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "digest": f"{number:064d}",
        "path": f"images/{number}",
        "size_bytes": 1,
        "state": fate.instance,
        "eligible": fate.analysis is not AnalysisState.NOT_APPLICABLE,
        "reason": "lateral view LL" if fate.analysis is AnalysisState.NOT_APPLICABLE else "",
        "received_at": at,
        "calling_ae_title": f"DX{number % _MODALITIES}",
    }


def _analysis(number: int, at: datetime, state: AnalysisState) -> dict[str, Any]:
    return {
        "id": number,
        "study_id": number,
        "input_digest": f"{number:064d}",
        "model_id": "benchmark",
        "model_version": "1",
        "settings_digest": "0" * 64,
        "demonstration": True,
        "state": state,
        "attempt": 1,
        "not_before": at,
        "error": "the pixel data cannot be decoded" if state is AnalysisState.FAILED else "",
        "created_at": at,
        "started_at": at,
        "finished_at": at,
    }


def _result(number: int, at: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "analysis_id": number,
        "kind": "sr",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
        "sop_instance_uid": f"2.25.{number}",
        "template_version": "1",
        "path": f"results/{number}",
        "digest": f"{number:064d}",
        "created_at": at,
    }


def _delivery(number: int, at: datetime, state: DeliveryState) -> dict[str, Any]:
    return {
        "id": number,
        "result_id": number,
        "destination": DESTINATION,
        "state": state,
        "attempt": 1,
        "not_before": at,
        "error": "" if state is DeliveryState.SENT else "0xA700: refused",
        "sent_at": at if state is DeliveryState.SENT else None,
    }


def _call(number: int, at: datetime, delivery: DeliveryState | None) -> dict[str, Any]:
    """Due and refused where the delivery is."""
    state = CallState(delivery) if delivery in (DeliveryState.DUE, DeliveryState.REFUSED) else CallState.SENT
    return {
        "id": number,
        "analysis_id": number,
        "webhook": _WEBHOOK,
        "state": state,
        "attempt": 1,
        "not_before": at,
        "error": "",
        "created_at": at,
        "sent_at": at if state is CallState.SENT else None,
    }


def write_studies(records: Records, count: int) -> None:
    """So many, where there are none yet."""
    with records.reading() as session:
        there = session.scalar(select(func.count()).select_from(Study))
    if there:
        if there != count:
            raise SystemExit(f"there are {there} studies, not {count}")
        return
    rows = Rows(count)
    for start in range(1, count + 1, _AT_ONCE):
        by_table: dict[Any, list[dict[str, Any]]] = {}
        for number in range(start, min(start + _AT_ONCE, count + 1)):
            for table, row in rows.of(number):
                by_table.setdefault(table, []).append(row)
        with records.writing() as session:
            for table, values in by_table.items():
                session.execute(insert(table), values)


def gather_statistics(records: Records) -> None:
    """As PostgreSQL does by itself in time."""
    if records.engine.dialect.name == "postgresql":
        with records.writing() as session:
            session.execute(text("ANALYZE"))


def write_workers(records: Records) -> None:
    """Eight workers, and a destination that is down, as they are now."""
    now = utc_now()
    with records.writing() as session:
        session.execute(delete(WorkerProcess))
        session.execute(insert(WorkerProcess), [_worker(number, now) for number in range(_WORKERS)])
        if session.get(PeerSeen, (PeerKind.DESTINATION, DESTINATION)) is None:
            for kind, name in ((PeerKind.DESTINATION, DESTINATION), (PeerKind.WEBHOOK, _WEBHOOK)):
                row = PeerSeen(kind=kind, name=name, failure=f"{name} does not answer")
                row.last_failure_at = row.down_since = now
                session.add(row)


def _worker(number: int, now: datetime) -> dict[str, Any]:
    return {
        "part": "analysis",
        "host": f"gpu{number}",
        "pid": number + 1,
        "model": "benchmark 1",
        "device": "a GPU",
        "in_hand": number % 2,
        "busy_since": now,
        "started_at": now,
        "beaten_at": now,
    }


def write_jobs(records: Records, studies: int) -> None:
    """Forty jobs, of which the last one has so many studies, where there are none yet."""
    now = utc_now()
    with records.reading() as session:
        if session.scalar(select(func.count()).select_from(RetrievalJob)):
            return
    with records.writing() as session:
        session.execute(insert(RetrievalJob), [_job(number, now) for number in range(1, JOBS + 1)])
    for start in range(0, studies, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, studies))
        with records.writing() as session:
            session.execute(insert(RetrievalStudy), [_retrieved(number, studies, now) for number in numbers])


def _job(number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "source": DESTINATION,
        "filters": '{"since": "2024-01-01", "until": "2024-12-31"}',
        "method": "move",
        "again": False,
        "rate_per_hour": 0.0,
        "state": JobState.RUNNING if number == JOBS else JobState.DONE,
        "not_before": now,
        "created_at": now,
        "found_at": now - timedelta(hours=1),
    }


def _retrieved(number: int, count: int, now: datetime) -> dict[str, Any]:
    """One in a hundred failed, the last tenth waits."""
    over = number < count * 0.9
    failed = over and number % 100 == 0
    ended = RetrievalState.FAILED if failed else RetrievalState.DONE
    return {
        "job_id": JOBS,
        "study_instance_uid": f"1.2.826.0.1.3680043.12.{number}",
        "accession_number": f"A{number:08d}",
        "state": ended if over else RetrievalState.WAITING,
        "not_before": now,
        "images_expected": 2 * over,
        "images_come": 0 if failed else 2 * over,
        "error": "C001" if failed else "",
        "finished_at": now - timedelta(seconds=(count - number) / 10) if over else None,
    }
