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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.page_rows import (
    DESTINATION,
    JOBS,
    RARE,
    Rows,
    gather_statistics,
    write_jobs,
    write_studies,
    write_workers,
)
from litegpt.vocabulary import LABELS
from service.archive import Archive
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.reconciliation import sum_up
from service.records.standing import Question
from service.records.worklist import Key
from service.settings import Settings, load_settings
from service.web.filters import write_key
from service.web.ports import PAGES, running_ports
from service.web.reckoning import OLDER_THAN

_REQUESTS: Final = 11


def addresses(rows: Rows, count: int) -> dict[str, str]:
    """What is asked for, by what it is."""
    middle = write_key(Key(rows.received_at(count // 2), count // 2))
    day = rows.received_at(count // 3)
    month = f"study_since={day:%Y-%m}-01&study_until={day:%Y-%m}-28"
    common = next(label for label in LABELS if label != RARE).replace(" ", "+")
    return {
        "overview": "/",
        "overview, refreshed": "/overview/now",
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
        "rare finding": f"/studies?label={RARE.replace(' ', '+')}",
        "destination": f"/studies?destination={DESTINATION}",
        "model that read none": "/studies?model=9",
        "failed with a finding, none is": f"/studies?state=failed&label={common}",
        "accession number": f"/studies?study=A{count // 2:08d}",
        "beginning of a UID": f"/studies?study=1.2.826.0.1.3680043.10.{count // 2}",
        "beginning of every UID": "/studies?study=1.2",
        "one study": f"/studies/1.2.826.0.1.3680043.10.{count // 2}",
        "one study, refreshed": f"/studies/1.2.826.0.1.3680043.10.{count // 2}/now",
        "jobs": "/jobs",
        f"one job of {count // 10:,} studies": f"/jobs/{JOBS}",
        "the same, refreshed": f"/jobs/{JOBS}/now",
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
        write_workers(records)
        gather_statistics(records)
        print(f"{given.studies:,} studies written in {time.perf_counter() - begun:.0f} s")
        begun = time.perf_counter()
        with records.snapshot() as session:
            sum_up(session, Question(utc_now(), OLDER_THAN))
        reconciled = time.perf_counter() - begun
        print(f"reconciled in {reconciled:.1f} s")
        load = os.getloadavg()[0]
        with _server(settings) as base:
            table = measure(base, addresses(Rows(given.studies), given.studies))
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
