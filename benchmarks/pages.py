"""How long a person waits for the node's pages when the records are large.

    python benchmarks/pages.py [--studies 1000000] [--database-url URL] [--data-dir DIR] [--out FILE]

Writes studies into the records (SQLite in a temporary folder, or an empty database of your own): received
over three years, one image each, read, and delivered to one destination; a few of them in every other state.
Then a web server of its own, a process, is asked for each page; the median of some requests is printed in
milliseconds, each over a connection of its own, from its first byte to the answer's last. With ``--data-dir``
the records are kept there, and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from sqlalchemy import func, insert, select, text

from litegpt.vocabulary import LABELS, LOCAL_LABELS
from service.archive import Archive
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.reconciliation import sum_up
from service.records.standing import Question
from service.records.states import (
    AnalysisState,
    DeliveryState,
    InstanceState,
    JobState,
    RetrievalState,
    StudyState,
)
from service.records.tables import (
    Analysis,
    AnalysisImage,
    Delivery,
    Finding,
    Instance,
    Result,
    RetrievalJob,
    RetrievalStudy,
    Study,
)
from service.records.worklist import Key
from service.settings import Settings, load_settings
from service.web.filters import write_key
from service.web.ports import PAGES, running_ports
from service.web.reckoning import OLDER_THAN

_AT_ONCE: Final = 20_000
_REQUESTS: Final = 11
_YEARS: Final = timedelta(days=3 * 365)
_RARE: Final = "Rib fracture"
_DESTINATION: Final = "PACS@10.0.0.5:104"
_MODALITIES: Final = 8
_JOBS: Final = 40


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


class _Rows:
    """Rows of all tables for some studies, ids counted up from the first."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(20_260_101)
        self._count = count
        self._begin = utc_now() - _YEARS
        self._labels = [label for label in LOCAL_LABELS if label != _RARE]

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
            "label": _RARE if rare else self._random.choice(self._labels),
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
        "destination": _DESTINATION,
        "state": state,
        "attempt": 1,
        "not_before": at,
        "error": "" if state is DeliveryState.SENT else "0xA700: refused",
        "sent_at": at if state is DeliveryState.SENT else None,
    }


def write_studies(records: Records, count: int) -> None:
    """So many, where there are none yet."""
    with records.reading() as session:
        there = session.scalar(select(func.count()).select_from(Study))
    if there:
        if there != count:
            raise SystemExit(f"there are {there} studies, not {count}")
        return
    rows = _Rows(count)
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


def write_jobs(records: Records, studies: int) -> None:
    """Forty jobs, of which the last one has so many studies, where there are none yet."""
    now = utc_now()
    with records.reading() as session:
        if session.scalar(select(func.count()).select_from(RetrievalJob)):
            return
    with records.writing() as session:
        session.execute(insert(RetrievalJob), [_job(number, now) for number in range(1, _JOBS + 1)])
    for start in range(0, studies, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, studies))
        with records.writing() as session:
            session.execute(insert(RetrievalStudy), [_retrieved(number, studies, now) for number in numbers])


def _job(number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "source": _DESTINATION,
        "filters": '{"since": "2024-01-01", "until": "2024-12-31"}',
        "method": "move",
        "again": False,
        "rate_per_hour": 0.0,
        "state": JobState.RUNNING if number == _JOBS else JobState.DONE,
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
        "job_id": _JOBS,
        "study_instance_uid": f"1.2.826.0.1.3680043.12.{number}",
        "accession_number": f"A{number:08d}",
        "state": ended if over else RetrievalState.WAITING,
        "not_before": now,
        "images_expected": 2 * over,
        "images_come": 0 if failed else 2 * over,
        "error": "C001" if failed else "",
        "finished_at": now - timedelta(seconds=(count - number) / 10) if over else None,
    }


def addresses(rows: _Rows, count: int) -> dict[str, str]:
    """What is asked for, by what it is."""
    middle = write_key(Key(rows.received_at(count // 2), count // 2))
    day = rows.received_at(count // 3)
    month = f"study_since={day:%Y-%m}-01&study_until={day:%Y-%m}-28"
    common = next(label for label in LABELS if label != _RARE).replace(" ", "+")
    return {
        "overview": "/",
        "studies, newest": "/studies",
        "studies, from the middle on": f"/studies?after={middle}",
        "state delivered": "/studies?state=delivered",
        "state not-applicable": "/studies?state=not-applicable",
        "state failed": "/studies?state=failed",
        "state refused": "/studies?state=refused",
        "state delivering": "/studies?state=delivering",
        "state queued": "/studies?state=queued",
        "state receiving": "/studies?state=receiving",
        "state conflict": "/studies?state=conflict",
        "received on one day": f"/studies?since={day:%Y-%m-%d}&until={day:%Y-%m-%d}",
        "study date within a month": f"/studies?{month}",
        "common finding": f"/studies?label={common}",
        "common finding, high score": f"/studies?label={common}&score=0.99",
        "rare finding": f"/studies?label={_RARE.replace(' ', '+')}",
        "destination": f"/studies?destination={_DESTINATION}",
        "model that read none": "/studies?model=9",
        "failed with a finding, none is": f"/studies?state=failed&label={common}",
        "accession number": f"/studies?study=A{count // 2:08d}",
        "beginning of a UID": f"/studies?study=1.2.826.0.1.3680043.10.{count // 2}",
        "beginning of every UID": "/studies?study=1.2",
        "one study": f"/studies/1.2.826.0.1.3680043.10.{count // 2}",
        "one study, refreshed": f"/studies/1.2.826.0.1.3680043.10.{count // 2}/now",
        "jobs": "/jobs",
        f"one job of {count // 10:,} studies": f"/jobs/{_JOBS}",
        "the same, refreshed": f"/jobs/{_JOBS}/now",
        "models": "/models",
        "settings": "/settings",
    }


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    environment = {**os.environ, **settings.as_environment()}
    command = [sys.executable, "-m", "service.cli.main", "web"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while not (port := running_ports(settings.data_dir).get(PAGES)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the web server does not start")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _milliseconds(address: str) -> float:
    begun = time.perf_counter()
    with urlopen(address, timeout=60) as answer:
        answer.read()
    return (time.perf_counter() - begun) * 1000


def measure(base: str, pages: dict[str, str]) -> dict[str, dict[str, float]]:
    """The median and the longest of some requests for each, after one that is not counted."""
    table = {}
    for name, path in pages.items():
        try:
            first = _milliseconds(base + path)
        except URLError as error:
            raise SystemExit(f"{path}: {error}") from None
        times = [_milliseconds(base + path) for _ in range(_REQUESTS)]
        table[name] = {
            "median_ms": round(statistics.median(times), 1),
            "longest_ms": round(max(times), 1),
            "first_ms": round(first, 1),
        }
        print(f"{name:32} {table[name]['median_ms']:8.1f} ms, at most {table[name]['longest_ms']:8.1f}")
    return table


def main() -> int:
    """Measures, prints, and writes the file where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--database-url")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(
            data_dir=given.data_dir or Path(folder) / "node",
            database_url=given.database_url,
            web_port=0,
            log_level="WARNING",
        )
        Archive(settings.data_dir).prepare()
        records = Records.open(settings)
        migrate(records.engine)
        begun = time.perf_counter()
        write_studies(records, given.studies)
        write_jobs(records, given.studies // 10)
        gather_statistics(records)
        print(f"{given.studies:,} studies written in {time.perf_counter() - begun:.0f} s")
        begun = time.perf_counter()
        with records.snapshot() as session:
            sum_up(session, Question(utc_now(), OLDER_THAN))
        reconciled = time.perf_counter() - begun
        print(f"reconciled in {reconciled:.1f} s")
        load = os.getloadavg()[0]
        with _server(settings) as base:
            table = measure(base, addresses(_Rows(given.studies), given.studies))
        database = records.engine.dialect.name
        records.close()
    report = {
        "command": f"python benchmarks/pages.py --studies {given.studies}",
        "database": database,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": load,
        "studies": given.studies,
        "reconcile_seconds": round(reconciled, 1),
        "requests": _REQUESTS,
        "pages": table,
    }
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
