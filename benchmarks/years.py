"""The rows of years of work on PostgreSQL, written by the database itself: ten millions in minutes.

Studies of one image, received every nine seconds, read, and delivered to one destination. A tenth has no
image to be read; of each thousand one analysis failed and one result was refused. UIDs of images count up as
a modality's do; digests and the UIDs of results are as good as random. Beside them studies that wait: for a
worker, or for a delivery.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from sqlalchemy import Connection, Engine, text

from litegpt.identity import ModelIdentity
from service.records.database import Records

MODEL: Final = ModelIdentity("benchmark", "1", demonstration=True)
DESTINATION: Final = "PACS@10.0.0.5:104"
TABLES: Final = (
    *("study", "instance", "analysis", "analysis_image", "finding", "result", "delivery"),
    "delivery_attempt",
)
"""Those that grow with the studies."""

_AT_ONCE: Final = 500_000
_WITHOUT_INDICES_FROM: Final = 200_000
"""From so many rows on, making the indices anew takes less time than keeping them."""


class Kind(Enum):
    """What has become of studies."""

    YEARS = "over"
    PENDING = "waiting for a worker"
    DUE = "waiting for their delivery"


_AT: Final = "now() - (10000000 - n) * interval '9.46 s'"
_UID: Final = "'1.2.826.0.1.3680043.10.' || n % 8 || '.' || lpad(n::text, 10, '0')"
_DIGEST: Final = "md5(n::text) || md5((-n)::text)"
_READ: Final = "n % 10 <> 9"
_FAILED: Final = "n % 1000 = 0"


def _statements(kind: Kind) -> dict[str, str]:
    """What writes each table, of the numbers ``n``."""
    over = kind is Kind.YEARS
    # One after the other: none of a million that wait has waited as long as another.
    at = _AT if over else "now() - (100000000 - n) * interval '1 ms'"
    read = _READ if over else "true"
    done = f"{read} AND NOT {_FAILED}" if over else str(kind is Kind.DUE)
    analysis = (
        f"CASE WHEN NOT ({read}) THEN 'not-applicable' WHEN {done} THEN 'done' ELSE 'failed' END"
        if over
        else ("'done'" if kind is Kind.DUE else "'queued'")
    )
    delivery = "CASE WHEN n % 1000 = 1 THEN 'refused' ELSE 'sent' END" if over else "'due'"
    sent_at = f"CASE WHEN n % 1000 <> 1 THEN {at} END" if over else "NULL::timestamptz"
    attempt, finished = ("0", "NULL::timestamptz") if kind is Kind.PENDING else ("1", at)
    return {
        "study": f"""(id, study_instance_uid, accession_number, study_date, state, receiving_since,
                      last_eligible_at, priority, completed_at)
            SELECT n, {_UID}, 'A' || lpad(n::text, 10, '0'), to_char({at}, 'YYYYMMDD'), 'complete',
                   {at}, {at}, 1, {at}""",
        "instance": f"""(id, study_id, sop_instance_uid, sop_class_uid, series_instance_uid,
                         transfer_syntax_uid, digest, path, size_bytes, state, eligible, reason,
                         calling_ae_title, facts, received_at)
            SELECT n, n, {_UID} || '.1.1', '1.2.840.10008.5.1.4.1.1.1.1', {_UID} || '.1',
                   '1.2.840.10008.1.2.1', {_DIGEST}, 'images/' || md5(n::text) || '.dcm', 10000000,
                   'stored', {read}, CASE WHEN {read} THEN '' ELSE 'lateral view LL' END, 'DX' || n % 8,
                   '', {at}""",
        "analysis": f"""(id, study_id, input_digest, model_id, model_version, settings_digest,
                         demonstration, state, attempt, failures, not_before, error, created_at,
                         started_at, finished_at)
            SELECT n, n, {_DIGEST}, '{MODEL.id}', '{MODEL.version}', repeat('0', 64), true, {analysis},
                   {attempt}, 0, {at}, '', {at}, {finished}, {finished}""",
        "analysis_image": f"""(analysis_id, instance_id, position, not_read)
            SELECT n, n, 0, '' WHERE {read}""",
        "finding": f"""(id, analysis_id, instance_id, position, label, score, box_score, reported,
                        x_min, y_min, x_max, y_max)
            SELECT n, n, n, 0, (ARRAY['Pleural effusion', 'Cardiomegaly', 'Consolidation'])[1 + n % 3],
                   (n % 97) / 97.0, 0.5, true, 10, 10, 400, 300 WHERE {done}""",
        "result": f"""(id, analysis_id, kind, sop_class_uid, sop_instance_uid, template_version, path,
                       digest, created_at)
            SELECT n, n, 'sr', '1.2.840.10008.5.1.4.1.1.88.34',
                   '2.25.' || translate(md5('r' || n), 'abcdef', '012345'), '1',
                   'results/' || md5(n::text) || '.dcm', {_DIGEST}, {at} WHERE {done}""",
        "delivery": f"""(id, result_id, destination, state, attempt, not_before, error, sent_at)
            SELECT n, n, '{DESTINATION}', {delivery}, {int(over)}, {at}, '',
                   {sent_at} WHERE {done}""",
        "delivery_attempt": f"""(delivery_id, attempt, count, outcome, said, seconds, worker, first_at,
                                 last_at)
            SELECT n, 1, 1, CASE WHEN n % 1000 = 1 THEN 'refused' ELSE 'sent' END, '0x0000', 0.1,
                   'node/1', {at}, {at} WHERE {done} AND {over}""",
    }


def write(records: Records, first: int, last: int, kind: Kind = Kind.YEARS) -> None:
    """Writes the studies with these numbers, their rows' ids; the tables' statistics are as new then.

    Where there are very many, the user must be a superuser: foreign keys are not looked at one by one.
    """
    very_many = last - first >= _WITHOUT_INDICES_FROM
    with records.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if very_many:
            for setting in (
                *("session_replication_role = replica", "synchronous_commit = off"),
                "maintenance_work_mem = '1GB'",
            ):
                connection.execute(text(f"SET {setting}"))
            with _without_indices(connection):
                _write(connection, first, last, kind)
                _tell("vacuum")
                connection.execute(text(f"VACUUM {', '.join(TABLES)}"))
        else:
            _write(connection, first, last, kind)
        connection.execute(text(f"VACUUM ANALYZE {', '.join(TABLES)}"))
    # Its settings go with the connection.
    records.engine.dispose()


def _write(connection: Connection, first: int, last: int, kind: Kind) -> None:
    for start in range(first, last + 1, _AT_ONCE):
        end = min(start + _AT_ONCE - 1, last)
        for table, statement in _statements(kind).items():
            into, _, where = statement.partition(" WHERE ")
            numbers = f"FROM generate_series({start}, {end}) AS n WHERE {where or 'true'}"
            connection.execute(text(f"INSERT INTO {table} {into} {numbers}"))
        if last - first >= _AT_ONCE:
            _tell(f"study {end:,} of {last:,}")
    for table in set(TABLES) - {"analysis_image"}:
        connection.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                f" (SELECT coalesce(max(id), 1) FROM {table}))"
            )
        )


@contextmanager
def _without_indices(connection: Connection) -> Iterator[None]:
    """Takes all but the primary keys away, and makes them again."""
    tables = ", ".join(f"'{table}'" for table in TABLES)
    constraints = connection.execute(
        text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE contype = 'u' AND conrelid::regclass::text IN ({tables})"
        )
    ).all()
    for table, name, _ in constraints:
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
    indices = connection.execute(
        text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
            f" AND tablename IN ({tables}) AND indexname NOT LIKE 'pk!_%' ESCAPE '!'"
        )
    ).all()
    for name, _ in indices:
        connection.execute(text(f"DROP INDEX {name}"))
    yield
    for table, name, definition in constraints:
        _tell(name)
        connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"))
    for name, definition in indices:
        _tell(name)
        connection.execute(text(definition))


_BEGUN: Final = time.monotonic()


def _tell(what: str) -> None:
    print(f"\r{time.monotonic() - _BEGUN:6.0f} s  {what:50}", end="", file=sys.stderr)


def size_bytes(engine: Engine) -> int:
    """Of the whole database, on disk."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
