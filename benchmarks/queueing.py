"""How fast claimers with an empty model drain waiting analyses, beside Celery alone with empty tasks.

    python -m benchmarks.queueing [--pending 100000] [--seconds 20] [--claimers 1 4 16] [--database-url URL]

On PostgreSQL (its own, or the server named; ``fsync`` on) claimers, a process each, claim as many analyses at
once as a worker does and write them down as done, findings none, until nothing waits or the time is over. In
the same way they claim alone, and claim and record deliveries. The peer is Celery with Redis and as many
processes (prefork, its own settings), to which as many messages of an empty task were sent before; it keeps
nothing of what it did. SQLite with one claimer stands beside. The limit is what the disk commits: rows of one
column by as many connections at once, times the analyses of a batch, by two commits a batch. While claimers
work the sessions that wait for a lock are counted. Ctrl-C ends it and keeps what was measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from sqlalchemy import URL, create_engine, func, make_url, select, text, update

from benchmarks import backlog, machine, markdown, postgres, years
from benchmarks.claimers import BATCH, NODE, SETTINGS, WORKS, Row, drain
from benchmarks.empty_tasks import celery_rate
from benchmarks.years import MODEL, Kind
from service.completion import Completion
from service.eligibility import Eligibility
from service.records import analyses
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.states import AnalysisState, DeliveryState
from service.records.tables import Analysis, Delivery
from service.rules.rulebook import Rulebook
from service.settings import load_settings
from tests.services.redis import redis_database, redis_server

GOAL: Final = 1.0
"""Times Celery alone, with as many consumers."""

CELERY, COMMITS = "Celery alone", "commits alone"
_ON_SQLITE: Final = 20_000
"""Analyses: to write 100,000 there takes longer than to measure."""


def _commit(url: str, start: threading.Barrier, seconds: float, done: Any) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        start.wait()
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            connection.execute(text("INSERT INTO commits_alone VALUES (1)"))
            connection.commit()
            count += 1
        done.put((count, time.monotonic() - begun))


def commits(url: URL, connections: int, seconds: float = 3.0) -> Row:
    """Commits of one row each, by so many connections at once."""
    with create_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS commits_alone (n integer)"))
    start = threading.Barrier(connections)
    done: SimpleQueue[tuple[int, float]] = SimpleQueue()
    address = url.render_as_string(hide_password=False)
    threads = [
        threading.Thread(target=_commit, args=(address, start, seconds, done)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    ends = [done.get() for _ in threads]
    for thread in threads:
        thread.join()
    return Row(COMMITS, connections, sum(count for count, _ in ends), max(taken for _, taken in ends))


def wait_again(records: Records) -> None:
    """Has all analyses wait for a worker again, and all deliveries be due."""
    now = utc_now()
    with records.writing() as session:
        session.execute(
            update(Analysis).values(
                state=AnalysisState.QUEUED, attempt=0, failures=0, not_before=now, finished_at=None
            )
        )
        session.execute(
            update(Delivery).values(state=DeliveryState.DUE, attempt=0, not_before=now, sent_at=None)
        )
    if records.engine.dialect.name == "postgresql":
        with records.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def too_few(records: Records, pending: int) -> bool:
    """Whether less than half of the analyses wait still."""
    with records.reading() as session:
        return analyses.count_due(session) < pending / 2


def twice_begun(records: Records) -> int:
    """How many analyses more than one claimer had: none, where each is claimed once."""
    with records.reading() as session:
        return session.scalar(select(func.count()).select_from(Analysis).where(Analysis.attempt > 1)) or 0


def run(url: URL, arguments: argparse.Namespace, broker: str) -> Iterator[Row]:
    """Measures each number of claimers: the disk, Celery, and each form of work."""
    with postgres.database(url, "queue") as records:
        own = url.set(database="queue")
        years.write(records, 1, arguments.pending, Kind.PENDING)
        years.write(records, arguments.pending + 1, arguments.pending + arguments.due, Kind.DUE)
        for claimers in arguments.claimers:
            yield commits(own, claimers)
            with redis_database(broker) as database:
                done, seconds = celery_rate(database, claimers, arguments.pending, arguments.seconds)
            yield Row(CELERY, claimers, done, round(seconds, 3))
            for name in WORKS:
                if too_few(records, arguments.pending):
                    wait_again(records)
                yield drain(own, name, claimers, arguments.seconds)
                if twice := twice_begun(records):
                    raise SystemExit(f"{twice} analyses were claimed twice")


def _written_on_sqlite(records: Records, count: int) -> None:
    completion = Completion(
        timedelta(0), timedelta(minutes=1), MODEL, Eligibility.of(SETTINGS), Rulebook(SETTINGS)
    )
    backlog.write_studies(records, completion, 1, count)
    wait_again(records)


def on_sqlite(arguments: argparse.Namespace) -> Row:
    """One claimer on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/records.sqlite3"
        records = Records.open(load_settings(data_dir=Path(folder), database_url=url))
        migrate(records.engine)
        _written_on_sqlite(records, min(arguments.pending, _ON_SQLITE))
        records.close()
        row = drain(make_url(url), NODE, 1, arguments.seconds)
    return replace(row, work=f"{row.work}, SQLite")


def report(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with what they are to Celery's and to the disk's, with as many claimers."""
    rates = {(row.work, row.claimers): row.rate for row in rows}
    told = []
    for row in rows:
        celery, disk = (rates.get((name, row.claimers)) for name in (CELERY, COMMITS))
        of_node = row.work not in (CELERY, COMMITS)
        limit = disk * BATCH / 2 if disk and row.work == NODE else None
        told.append(
            {
                **asdict(row),
                "rate": round(row.rate, 1),
                "to_celery": round(row.rate / celery, 3) if celery and of_node else None,
                "of_limit": round(row.rate / limit, 3) if limit else None,
            }
        )
    return told


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Ratios first, for people."""
    head = ("work", "claimers", "x Celery", "of the limit", "a second", "waits for a lock, share of looks")
    names = ("work", "claimers", "to_celery", "of_limit", "rate", "lock_waits")
    return markdown.table(head, [["" if row[name] is None else row[name] for name in names] for row in rows])


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    rows: list[Row] = []
    with ExitStack() as stack:
        url = stack.enter_context(postgres.server(arguments.database_url))
        broker = stack.enter_context(redis_server())
        load = machine.load_average()
        try:
            for row in run(url, arguments, broker):
                rows.append(row)
                print(f"{row.claimers:3} x {row.work:45} {row.rate:8.1f}/s", file=sys.stderr)
            rows.append(on_sqlite(arguments))
        except KeyboardInterrupt:
            print("\nended early", file=sys.stderr)
        settings = postgres.describe(url)
    told = report(rows)
    print("\n" + table(told), file=sys.stderr)
    goals = [
        {"claimers": row["claimers"], "wanted": GOAL, "reached": row["to_celery"]}
        for row in told
        if row["work"] == NODE and row["to_celery"]
    ]
    for goal in goals:
        words = "reached" if goal["reached"] >= GOAL else "NOT reached"
        print(f"{goal['claimers']} claimers, {GOAL} x Celery {words}: {goal['reached']}", file=sys.stderr)
    result = {
        "command": f"python -m benchmarks.queueing --pending {arguments.pending} --due {arguments.due}"
        f" --seconds {arguments.seconds:g} --claimers {' '.join(map(str, arguments.claimers))}",
        "load_average": [load, machine.load_average()],
        "postgresql": settings,
        "versions": {name: version(name) for name in ("celery", "redis", "SQLAlchemy", "psycopg")},
        "goals": goals,
        "rows": told,
    }
    machine.report("queueing", arguments.out, result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=50_000, help="deliveries")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each, at most")
    parser.add_argument("--claimers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--database-url", help="a server whose user may make databases, and is a superuser")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
