"""Claimers, a process each: they claim what waits, find nothing, and write that down, as fast as they can."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, create_engine, text

from benchmarks.journey import RETRY, RULE, TO, a_result
from benchmarks.years import MODEL
from service.records import analyses, conclusions, deliveries
from service.records.conclusions import Conclusion, ImageOutcome
from service.records.database import Records
from service.settings import load_settings

SETTINGS: Final = load_settings(data_dir=Path("/nonexistent"))
BATCH: Final = SETTINGS.analysis_batch_size
_DELIVERIES: Final = SETTINGS.delivery_batch_size
LEASE: Final = timedelta(hours=1)
"""Longer than all of it takes: none that was claimed comes back."""

_SAMPLE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """What one form of work did with so many claimers.

    Attributes:
        done: Analyses, deliveries, tasks or commits.
        lock_waits: Share of the looks at the sessions in which one waited for another's lock.
        longest_row_wait: How many sessions waited at once, at most.
    """

    work: str
    claimers: int
    done: int
    seconds: float
    lock_waits: float | None = None
    longest_row_wait: int | None = None

    @property
    def rate(self) -> float:
        """A second."""
        return self.done / self.seconds


def _claims(records: Records, batch: int) -> list[Any]:
    return analyses.claim(
        records, model_id=MODEL.id, model_version=MODEL.version, limit=batch, lease=LEASE, retry=RETRY
    )


def claim_alone(records: Records) -> int:
    """Claims as many as a worker does."""
    return len(_claims(records, BATCH))


def analyse(records: Records, batch: int = BATCH) -> int:
    """Claims as many, finds nothing, and writes that down."""
    claims = _claims(records, batch)
    if claims:
        conclusions.finish_all(records, [_concluded(claim) for claim in claims])
    return len(claims)


def analyse_32(records: Records) -> int:
    """The same by 32."""
    return analyse(records, 32)


def analyse_and_report(records: Records) -> int:
    """The same with a result of each, and its delivery to one destination."""
    claims = _claims(records, BATCH)
    if claims:
        conclusions.finish_all(records, [_concluded(claim, [a_result()]) for claim in claims])
    return len(claims)


def deliver(records: Records) -> int:
    """Claims as many deliveries as are sent on one association, and records each as sent."""
    claims = deliveries.claim(records, TO, limit=_DELIVERIES, lease=LEASE)
    for claim in claims:
        deliveries.begin(records, claim, LEASE)
        deliveries.sent(records, claim, "0x0000", 0.1)
    return len(claims)


def _concluded(claim: Any, results: Sequence[Any] = ()) -> Conclusion:
    outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
    return Conclusion(claim, outcomes, results, RULE)


WORKS: Final[dict[str, Callable[[Records], int]]] = {
    f"claims alone, {BATCH} at once": claim_alone,
    f"analyses, {BATCH} at once": analyse,
    "analyses, 32 at once": analyse_32,
    f"analyses with a result, {BATCH} at once": analyse_and_report,
    f"deliveries, {_DELIVERIES} at once": deliver,
}
NODE: Final = f"analyses, {BATCH} at once"


def _work(url: str, name: str, start: Barrier, seconds: float, done: Any) -> None:
    """One claimer's process."""
    records = Records.open(load_settings(data_dir=Path("/nonexistent"), database_url=url))
    with records.reading() as session:
        session.execute(text("SELECT 1"))
    start.wait()
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds and (came := WORKS[name](records)):
        count += came
    done.put((count, time.monotonic() - begun))
    records.close()


def drain(url: URL, name: str, claimers: int, seconds: float) -> Row:
    """Has so many claimers work until nothing waits, or the time is over.

    Raises:
        ChildProcessError: If one of them did not come to its end.
    """
    address = url.render_as_string(hide_password=False)
    # Forked before anything is connected: a new interpreter each would load PyTorch first.
    context = multiprocessing.get_context("fork")
    start, done = context.Barrier(claimers + 1), context.Queue()
    processes = [
        context.Process(target=_work, args=(address, name, start, seconds, done)) for _ in range(claimers)
    ]
    for process in processes:
        process.start()
    start.wait(120)
    with _lock_waits(url) as waits:
        ends = [done.get(timeout=seconds + 120) for _ in processes]
    for process in processes:
        process.join(30)
    if any(process.exitcode for process in processes):
        raise ChildProcessError(f"{name}: a claimer failed")
    waiting = [count for count in waits if count]
    return Row(
        name,
        claimers,
        sum(count for count, _ in ends),
        round(max(taken for _, taken in ends), 3),
        round(len(waiting) / len(waits), 4) if waits else None,
        max(waits, default=None),
    )


@contextmanager
def _lock_waits(url: URL) -> Iterator[list[int]]:
    """How many sessions wait for a row or a transaction of others, looked at again and again."""
    counts: list[int] = []
    if url.get_backend_name() != "postgresql":
        yield counts
        return
    over = threading.Event()

    def look() -> None:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        waits = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        with engine.connect() as connection:
            while not over.wait(_SAMPLE_SECONDS):
                counts.append(connection.execute(waits).scalar_one())
        engine.dispose()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield counts
    finally:
        over.set()
        looker.join()
