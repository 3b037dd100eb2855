"""How long an admin waits for a backlog, and today's patients behind it: `rerun` over N studies, then claims.

    python benchmarks/backlog.py [--studies 10000 100000] [--database-url URL] [--out FILE]

Studies of one image, read by version 1 of a model, are written into the records (SQLite in a temporary
folder, or an empty database of your own); version 2 is then asked to read all of them again. Prints, for each
number: seconds of the dry run and of the run, by how much the process grew in memory, and the median time of
a claim of four analyses while the backlog waits, for new patients and for the backlog's turn. The limit
beside it is the database's own: the same rows inserted 500 a transaction, without looking at anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psutil
from sqlalchemy import delete, insert, select, text

from litegpt.identity import ModelIdentity
from service.actions.action import Course
from service.actions.analysing import Rerun
from service.completion import Completion, input_digest
from service.eligibility import Eligibility
from service.records import analyses
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.states import AnalysisState, InstanceState, Priority, StudyState
from service.records.tables import Analysis, AnalysisImage, Base, Instance, Study
from service.rules.rulebook import Rulebook
from service.settings import Settings, load_settings

FORMER: Final = ModelIdentity("benchmark", "1", demonstration=True)
PRESENT: Final = replace(FORMER, version="2")
_AT_ONCE: Final = 500
_CLAIMS: Final = 30


def write_studies(records: Records, completion: Completion, first: int, last: int) -> None:
    """Studies read by the former model, with ids from ``first`` to ``last``."""
    for start in range(first, last + 1, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, last + 1))
        with records.writing() as session:
            session.execute(insert(Study), [_study(number) for number in numbers])
            session.execute(insert(Instance), [_instance(number) for number in numbers])
            session.execute(insert(Analysis), [_analysis(number, completion) for number in numbers])
            rows = [{"analysis_id": number, "instance_id": number, "position": 0} for number in numbers]
            session.execute(insert(AnalysisImage), rows)
    if records.engine.dialect.name == "postgresql":
        with records.writing() as session:  # ids were given, so its own counting has not moved
            session.execute(text(f"SELECT setval(pg_get_serial_sequence('analysis', 'id'), {last})"))


def _study(number: int) -> dict[str, Any]:
    now = utc_now()
    return {
        "id": number,
        "study_instance_uid": f"1.2.{number}",
        "accession_number": f"A{number}",
        "state": StudyState.COMPLETE,
        "receiving_since": now,
        "last_eligible_at": now,
        "completed_at": now,
    }


def _instance(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "study_id": number,
        "sop_instance_uid": f"1.3.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
        "series_instance_uid": "1.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "digest": f"{number:064d}",
        "path": f"images/{number}",
        "size_bytes": 1,
        "state": InstanceState.STORED,
        "eligible": True,
        "received_at": utc_now(),
    }


def _analysis(number: int, completion: Completion) -> dict[str, Any]:
    now = utc_now()
    image = Instance(sop_instance_uid=f"1.3.{number}", digest=f"{number:064d}")
    return {
        "id": number,
        "study_id": number,
        "input_digest": input_digest([image]),
        "model_id": FORMER.id,
        "model_version": FORMER.version,
        "settings_digest": completion.eligibility.digest,
        "demonstration": True,
        "state": AnalysisState.DONE,
        "not_before": now,
        "created_at": now,
        "finished_at": now,
    }


def measure(records: Records, completion: Completion, count: int) -> dict[str, Any]:
    """All figures of one number of studies, whose rows are there."""
    rerun = Rerun(completion)
    dry, _ = _timed(lambda: Course(records, "benchmark", dry_run=True).run(rerun, Selection()))
    with _growth() as grown:
        seconds, tally = _timed(lambda: Course(records, "benchmark").run(rerun, Selection()))
    if tally != {"queued": count}:
        raise SystemExit(f"not all were queued: {dict(tally)}")
    return {
        "studies": count,
        "dry_run_seconds": round(dry, 2),
        "rerun_seconds": round(seconds, 2),
        "studies_per_second": round(count / seconds),
        "memory_growth_bytes": grown[0],
        "claim_of_backlog_seconds": round(_claim(records, Priority.BACKLOG), 4),
        "claim_of_new_patient_seconds": round(_claim_of_new(records, completion, count), 4),
    }


def insert_seconds(records: Records, completion: Completion, count: int) -> float:
    """The database's own time for as many analyses with their images, removed again."""
    start = time.perf_counter()
    for first in range(1, count + 1, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count + 1))
        rows = [_analysis(n, completion) | {"id": n + 10_000_000, "model_version": "0"} for n in numbers]
        images = [{"analysis_id": n + 10_000_000, "instance_id": n, "position": 0} for n in numbers]
        with records.writing() as session:
            session.execute(insert(Analysis), rows)
            session.execute(insert(AnalysisImage), images)
    seconds = time.perf_counter() - start
    with records.writing() as session:
        session.execute(delete(AnalysisImage).where(AnalysisImage.analysis_id > 10_000_000))
        session.execute(delete(Analysis).where(Analysis.model_version == "0"))
    return seconds


def _claim(records: Records, first: Priority) -> float:
    """The median time of a claim of four."""
    retry = Retry(first=timedelta(0), maximum=timedelta(0), maximum_attempts=5)
    times = []
    for _ in range(_CLAIMS):
        seconds, claims = _timed(
            lambda: analyses.claim(
                records,
                model_id=PRESENT.id,
                model_version=PRESENT.version,
                limit=4,
                lease=timedelta(hours=1),
                retry=retry,
                first=first,
            )
        )
        if not claims:
            raise SystemExit("there was nothing to claim")
        times.append(seconds)
    return statistics.median(times)


def _claim_of_new(records: Records, completion: Completion, count: int) -> float:
    """The same for routine studies, enough of which are there."""
    with records.writing() as session:
        waiting = (Analysis.state == AnalysisState.QUEUED, Analysis.model_version == PRESENT.version)
        newest = select(Analysis).where(*waiting).order_by(Analysis.id.desc()).limit(4 * _CLAIMS)
        for row in session.scalars(newest):
            row.priority = Priority.ROUTINE
    return _claim(records, Priority.STAT)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    came = work()
    return time.perf_counter() - start, came


@contextmanager
def _growth() -> Iterator[list[int]]:
    """How far the process's memory has grown when the block ends, in bytes."""
    process = psutil.Process()
    before, grown = process.memory_info().rss, [0]
    yield grown
    grown[0] = process.memory_info().rss - before


def _fresh(settings: Settings) -> Records:
    records = Records.open(settings)
    migrate(records.engine)
    with records.reading() as session:
        if session.scalars(select(Study.id).limit(1)).first():
            raise SystemExit("the database is not empty")
    return records


def _emptied(records: Records) -> None:
    with records.writing() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))


def main(arguments: Sequence[str]) -> int:
    """Measures each number, prints a line for each, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--database-url")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder) / "node", database_url=asked.database_url)
        eligibility = Eligibility.of(settings)
        completion = Completion(timedelta(0), timedelta(minutes=1), PRESENT, eligibility, Rulebook(settings))
        records = _fresh(settings)
        rows = []
        for count in asked.studies:
            write_studies(records, completion, 1, count)
            limit = insert_seconds(records, completion, count)
            row = measure(records, completion, count) | {"insert_seconds": round(limit, 2)}
            print(json.dumps(row), file=sys.stderr)
            rows.append(row)
            _emptied(records)
        database = records.engine.dialect.name
        records.close()
    result = {
        "command": f"python benchmarks/backlog.py {' '.join(arguments)}".split(" --database-url")[0],
        "database": database,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "rows": rows,
    }
    told = json.dumps(result, indent=1) + "\n"
    if asked.out:
        asked.out.write_text(told, encoding="utf-8")
    print(told, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
