"""What an upgrade costs a node that goes on: from a release's schema to the present one, on PostgreSQL.

    python benchmarks/upgrade.py --database-url URL [--instances 1000000] [--long-query-seconds 20]

Fills an empty database of the release with so many images, all of them passed on, a study for every four.
Migrates it while writers record images and deliveries, a transaction each. Prints how long the migration
took, and the longest that a writer waited before and meanwhile. A long query reads in a transaction that
stays open, as a backup's does; the migration has to wait for it, and the writers must not.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, create_engine, text

from service.records.migrate import migrate, releases
from service.settings import load_settings

WRITERS: Final = 4
_T: Final = "'2026-03-01 08:00:00+00'"

_FILL: Final = (
    f"""INSERT INTO study (id, study_instance_uid, accession_number, study_date, state, receiving_since,
    last_eligible_at, completed_at) SELECT n, '1.2.' || n, n, '20260301', 'complete', {_T}, {_T}, {_T}
    FROM generate_series(1, :studies) n""",
    f"""INSERT INTO instance (id, study_id, sop_instance_uid, sop_class_uid, series_instance_uid,
    transfer_syntax_uid, digest, path, size_bytes, state, eligible, reason, calling_ae_title, received_at)
    SELECT n, (n - 1) / 4 + 1, '1.3.' || n, '1.2.840.10008.5.1.4.1.1.1.1', '1.4.' || n,
    '1.2.840.10008.1.2.1', lpad(n::text, 64, '0'), 'images/00/' || n, 9000000, 'stored', n % 4 = 0, '', 'CT1',
    {_T} FROM generate_series(1, 4 * :studies) n""",
    f"""INSERT INTO analysis (id, study_id, input_digest, model_id, model_version, settings_digest,
    demonstration, state, attempt, failures, not_before, error, created_at)
    SELECT n, n, '', 'model', '1', '', true, 'done', 1, 0, {_T}, '', {_T}
    FROM generate_series(1, :studies) n""",
    f"""INSERT INTO result (id, analysis_id, kind, sop_class_uid, sop_instance_uid, template_version, path,
    digest, created_at) SELECT n, n, 'sr', '1.2', '2.25.' || n, '3', '', '', {_T}
    FROM generate_series(1, :studies) n""",
    f"""INSERT INTO delivery (result_id, destination, state, attempt, not_before, error, sent_at)
    SELECT n, 'PACS@host:104', 'sent', 1, {_T}, '', {_T} FROM generate_series(1, :studies) n""",
    f"""INSERT INTO delivery (instance_id, destination, state, attempt, not_before, error, sent_at)
    SELECT n, 'PACS@host:104', 'sent', 1, {_T}, '', {_T} FROM generate_series(1, 4 * :studies) n""",
)
_WRITE: Final = (
    f"""INSERT INTO instance (id, study_id, sop_instance_uid, sop_class_uid, series_instance_uid,
    transfer_syntax_uid, digest, path, size_bytes, state, eligible, reason, calling_ae_title, received_at)
    VALUES (:id, 1, :uid, '1.2', '1.2', '1.2', :uid, '', 1, 'stored', false, '', 'CT1', {_T})""",
    "UPDATE delivery SET attempt = attempt + 1 WHERE id = :id % 100000 + 1",
)


def fill(engine: Engine, instances: int) -> None:
    """The rows of a node that has run for long."""
    with engine.begin() as connection:
        for statement in _FILL:
            connection.execute(text(statement), {"studies": instances // 4})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


class Writers:
    """Record images and deliveries; ``waits`` are the seconds that each transaction took."""

    def __init__(self, engine: Engine, instances: int) -> None:
        self.waits: list[float] = []
        self._engine, self._instances = engine, instances
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]

    @contextmanager
    def at_work(self) -> Iterator[Writers]:
        """They work until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _write(self, writer: int) -> None:
        number = self._instances + 1 + writer
        while not self._stop.wait(0.01):
            begun = time.monotonic()
            with self._engine.begin() as connection:
                for statement in _WRITE:
                    connection.execute(text(statement), {"id": number, "uid": str(number)})
            self.waits.append(time.monotonic() - begun)
            number += WRITERS


@contextmanager
def long_query(engine: Engine, seconds: float) -> Iterator[None]:
    """A transaction that has read all tables and stays open for so long."""

    def read() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT count(*) FROM (SELECT 1 FROM instance, delivery LIMIT 1) one"))
            reads.set()
            time.sleep(seconds)

    reads = threading.Event()
    thread = threading.Thread(target=read)
    if seconds:
        thread.start()
        reads.wait()
    yield
    if seconds:
        thread.join()


def main() -> None:
    """Fills, migrates, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database-url", required=True, help="an empty PostgreSQL database")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--long-query-seconds", type=float, default=0.0)
    given = parser.parse_args()
    settings = load_settings(data_dir=Path("unused"), database_url=given.database_url)
    engine = create_engine(settings.sqlalchemy_url, pool_size=WRITERS + 3)
    release = releases()[-1]
    migrate(engine, release["schema"])
    fill(engine, given.instances)
    with Writers(engine, given.instances).at_work() as writers, long_query(engine, given.long_query_seconds):
        time.sleep(5)
        before, writers.waits = writers.waits, []
        begun = time.monotonic()
        _, after = migrate(engine)
        seconds = time.monotonic() - begun
    print(f"{given.instances} instances, from {release['version']} (schema {release['schema']}) to {after}")
    print(f"migration: {seconds:.1f} s")
    for name, some in (("before", before), ("meanwhile", writers.waits)):
        print(f"a writer {name}: median {statistics.median(some):.3f} s, longest {max(some):.3f} s")


if __name__ == "__main__":
    main()
