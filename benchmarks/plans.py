"""How PostgreSQL looks for what the node asks it: its own statements explained, no large table gone through.

    python -m benchmarks.plans [--studies 100000] [--bounded] [--database-url URL] [--out FILE]

Writes studies into a database (of a server of its own, or of the one named), calls the node's own functions
and listens to what they ask; each statement is then explained, with EXPLAIN (ANALYZE, BUFFERS), in a
transaction that is rolled back. Prints a table, writes the plans as Markdown (``--out``), and fails where
a large table is gone through row by row by what must not: all but reconciling, which looks at everything and
comes last. Ctrl-C ends it and keeps what was explained.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event, func, select

from benchmarks import markdown, postgres, scale, years
from benchmarks.deeds import Deed, looks, work
from benchmarks.years import TABLES, Kind
from service.records import analyses
from service.records.database import Records
from service.records.tables import Study

LARGE_ROWS: Final = 10_000
"""A table with fewer is no large one: to go through it is the quickest."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a deed asked the database; of a statement with many sets of values, the first.

    Attributes:
        settings: What was set within its transaction before.
    """

    sql: str
    values: Any
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a statement was carried out.

    Attributes:
        lines: As PostgreSQL writes it.
        nodes: Each step, as it says in JSON.
        milliseconds: Planning and execution.
        blocks: Of 8 KiB that were looked at, in memory or not.
    """

    deed: Deed
    statement: Statement
    lines: tuple[str, ...]
    nodes: tuple[Mapping[str, Any], ...]
    milliseconds: float
    blocks: int

    def gone_through(self, large: Sequence[str]) -> list[str]:
        """The large tables of which it reads every row."""
        scans = (node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan")
        return sorted({table for table in scans if table in large})


@contextmanager
def _heard(engine: Engine) -> Iterator[list[Statement]]:
    """What is asked while the block runs, each statement once."""
    asked: dict[str, Statement] = {}
    settings: dict[str, str] = {}

    def hear(_c: Any, _cursor: Any, sql: str, values: Any, _context: Any, many: bool) -> None:
        if sql.startswith("SET LOCAL"):
            settings[sql.partition("=")[0]] = sql
        else:
            own = tuple(settings.values())
            asked.setdefault(sql, Statement(sql, values[0] if many else values, own))

    statements: list[Statement] = []
    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", hear)
        statements += asked.values()


def plans_of(records: Records, deed: Deed) -> list[Plan]:
    """Does it, and explains each statement that it made."""
    with _heard(records.engine) as statements:
        deed.do(records)
    return [_explain(records, deed, statement) for statement in statements if _can_be_explained(statement)]


def _can_be_explained(statement: Statement) -> bool:
    return statement.sql.lstrip().split(None, 1)[0] in {"SELECT", "UPDATE", "INSERT", "DELETE", "WITH"}


def _explain(records: Records, deed: Deed, statement: Statement) -> Plan:
    """Carries it out once more: the first time has filled the memory, as work that goes on does."""
    with records.engine.connect() as connection:

        def asked(options: str) -> list[Any]:
            rows = connection.exec_driver_sql(f"EXPLAIN ({options}) {statement.sql}", statement.values)
            return list(rows.scalars())

        for setting in statement.settings:
            connection.exec_driver_sql(setting)
        (planned,) = asked("FORMAT JSON")
        lines = tuple(asked("ANALYZE, BUFFERS"))
        connection.rollback()
    text = "\n".join(lines)
    milliseconds = sum(
        float(one) for one in re.findall(r"^(?:Planning|Execution) Time: ([\d.]+) ms", text, re.M)
    )
    read = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", text)
    blocks = sum(int(one or 0) for one in read.groups()) if read else 0
    return Plan(deed, statement, lines, tuple(_nodes(planned[0]["Plan"])), milliseconds, blocks)


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for one in node.get("Plans", ()):
        yield from _nodes(one)


def large_tables(engine: Engine) -> list[str]:
    """Those tables of studies' rows that are no small ones here."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'")
        return [name for name, count in rows if name in TABLES and count >= LARGE_ROWS]


def complaints(plans: Sequence[Plan], large: Sequence[str]) -> list[str]:
    """What goes through a large table and must not."""
    return [
        f"{plan.deed.name} goes through {', '.join(tables)}: {_line(plan.statement.sql)}"
        for plan in plans
        if not plan.deed.of_all and (tables := plan.gone_through(large))
    ]


def table(plans: Sequence[Plan]) -> str:
    """A row for each deed: its statements, their time and the blocks they looked at."""
    rows = []
    for deed in dict.fromkeys(plan.deed for plan in plans):
        own = [plan for plan in plans if plan.deed == deed]
        longest = max(own, key=lambda plan: plan.milliseconds)
        cells = [
            deed.name,
            len(own),
            f"{sum(plan.milliseconds for plan in own):,.1f}",
            f"{sum(plan.blocks for plan in own):,}",
            _accesses(longest),
        ]
        rows.append(cells)
    return markdown.table(("what", "statements", "ms", "blocks of 8 KiB", "by"), rows)


def _accesses(plan: Plan) -> str:
    """By which indices its longest statement looks, and what it goes through."""
    through = [f"all of {node['Relation Name']}" for node in plan.nodes if node["Node Type"] == "Seq Scan"]
    by = [node["Index Name"] for node in plan.nodes if "Index Name" in node]
    found = list(dict.fromkeys([*through, *by]))
    return ", ".join(found[:5]) + (", …" if len(found) > 5 else "")


_TOLD: Final = ("Scan", "Join", "Nested Loop", "Limit", "LockRows", "Index Cond", "Aggregate", "Sort", "Time")
_WIDTH: Final = 150
_LINES: Final = 24


def document(plans: Sequence[Plan], head: str) -> str:
    """All that was found, to be kept: the table, then of each deed its longest statement's plan."""
    parts = [head, table(plans)]
    for deed in dict.fromkeys(plan.deed for plan in plans):
        longest = max((plan for plan in plans if plan.deed == deed), key=lambda plan: plan.milliseconds)
        key_lines = [line[:_WIDTH] for line in longest.lines if any(word in line for word in _TOLD)]
        key_lines = key_lines[:_LINES] + (["…", *key_lines[-2:]] if len(key_lines) > _LINES else [])
        sql = _line(longest.statement.sql)
        shown = sql if len(sql) <= 4 * _WIDTH else f"{sql[: 4 * _WIDTH]} …"
        parts.append(
            f"## {deed.name[0].upper()}{deed.name[1:]}\n\n```sql\n{shown}\n```\n\n```text\n"
            + "\n".join(key_lines)
            + "\n```"
        )
    return "\n\n".join(parts) + "\n"


def _line(sql: str) -> str:
    return " ".join(sql.split())


def main() -> int:
    """Fills, explains, writes; 1 where a large table is gone through by what must not."""
    arguments = _arguments()
    name, count = f"scale_{arguments.studies}", arguments.studies
    with postgres.server(arguments.database_url) as url:
        with postgres.database(url, name, kept=bool(arguments.database_url)) as records:
            scale.filled(records, count)
            _write_waiting(records, arguments.pending)
            large = large_tables(records.engine)
            plans: list[Plan] = []
            try:
                for deed in (*work(), *looks()):
                    if deed.of_all and arguments.bounded:
                        continue
                    print(f"\r{deed.name:60}", end="", file=sys.stderr)
                    plans += plans_of(records, deed)
            except KeyboardInterrupt:
                print("\nended early", file=sys.stderr)
            size = years.size_bytes(records.engine)
        version = postgres.describe(url)["server_version"]
    wrong = complaints(plans, large)
    print(f"\n{table(plans)}\n" + "\n".join(wrong), file=sys.stderr)
    if arguments.out:
        head = _HEAD.format(
            bounded=" --bounded" if arguments.bounded else "",
            studies=count,
            pending=arguments.pending,
            gigabytes=size / 1e9,
            version=version.split()[0],
        )
        arguments.out.write_text(document(plans, head), encoding="utf-8")
    return 1 if wrong else 0


_HEAD: Final = """\
# Query plans

How PostgreSQL {version} carries out what the node asks it, with {studies:,} studies recorded
({gigabytes:.1f} GB), {pending:,} analyses that wait for a worker and as many deliveries that are due.
Written by

    python -m benchmarks.plans --studies {studies} --pending {pending}{bounded} --out docs/query-plans.md

from the statements that the node's own functions make. The command fails where one of them goes through a
large table row by row; a test holds that for the claims, the sweep and the deliveries. Reconciling alone is
meant to look at everything. The times are those of EXPLAIN (ANALYZE); of each deed the longest statement
is shown, in its key lines."""


def _write_waiting(records: Records, pending: int) -> None:
    """Writes what waits for a worker and for its delivery, where nothing does."""
    with records.reading() as session:
        if analyses.count_due(session) >= pending // 2:
            return
        last = session.scalar(select(func.max(Study.id))) or 0
    years.write(records, last + 1, last + pending, Kind.PENDING)
    years.write(records, last + pending + 1, last + 2 * pending, Kind.DUE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--database-url", help="a server whose user may make databases, and is a superuser")
    parser.add_argument("--bounded", action="store_true", help="leave out what is to look at everything")
    parser.add_argument("--out", type=Path, help="Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
