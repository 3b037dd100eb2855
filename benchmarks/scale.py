"""What a study costs the records when very many are recorded already: nearly the same, whatever their number.

    python -m benchmarks.scale [--studies 1000 100000 10000000] [--rounds 15] [--database-url URL]

A PostgreSQL of its own (or the server named) holds a database for each number of studies. A study then goes
its whole way through the node's own functions, from its first image to its result recorded and delivered:
the receiver's transaction, the sweep that completes it, the claim, the findings and the result written, the
delivery claimed, begun and recorded. No pixels, no files, no model and no network. The databases take turns,
so that what disturbs one disturbs all; medians over the studies, ratios to the smallest number. The limit is
the disk's: the study's commits, each one synced, measured in the same rounds with rows of one column.
Ctrl-C ends it and keeps what was measured. Databases stay on a server that was named (``scale_N``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select, text

from benchmarks import machine, markdown, postgres, years
from benchmarks.journey import Journey
from service.records.database import Records
from service.records.tables import Study

GOAL: Final = 1.2
"""Times the cost with the fewest studies, at most."""

_STUDIES: Final = (1_000, 100_000, 10_000_000)
_A_ROUND: Final = 20
_COMMITS: Final = 7
"""Of a study's way: received, completed, claimed, written, delivery claimed, begun and recorded."""


@dataclass(slots=True)
class Measured:
    """Seconds of the studies of one database, by step; ``commits`` are those of as many plain commits."""

    size_bytes: int
    steps: dict[str, list[float]] = field(default_factory=dict)
    commits: list[float] = field(default_factory=list)

    @property
    def totals(self) -> list[float]:
        """Of each study, all steps together."""
        return [sum(of_study) for of_study in zip(*self.steps.values(), strict=True)]

    def milliseconds(self) -> dict[str, float]:
        """The median of each step."""
        return {step: round(1000 * statistics.median(taken), 2) for step, taken in self.steps.items()}


def filled(records: Records, count: int) -> None:
    """Writes so many studies, where there are none yet.

    Raises:
        SystemExit: If there are others.
    """
    with records.reading() as session:
        there = session.scalar(select(func.max(Study.id))) or 0
    if there < count:
        if there:
            raise SystemExit(f"there are {there} studies, not {count}")
        years.write(records, 1, count)


def commit_seconds(records: Records) -> float:
    """Of as many commits as a study makes, of a row of one column each."""
    with records.engine.connect() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS commits_alone (n integer)"))
        connection.commit()
        begun = time.perf_counter()
        for number in range(_COMMITS):
            connection.execute(text("INSERT INTO commits_alone VALUES (:n)"), {"n": number})
            connection.commit()
        return time.perf_counter() - begun


def rounds(all_records: Sequence[Records], measured: Sequence[Measured], count: int) -> Iterator[str]:
    """Takes studies through each database in turn; the first round warms up and is not kept."""
    journeys = [Journey(records) for records in all_records]
    for number in range(count + 1):
        order = list(zip(all_records, journeys, measured, strict=True))
        for records, journey, of_it in reversed(order) if number % 2 else order:
            for _ in range(_A_ROUND):
                steps = journey.take()
                if number:
                    for step, seconds in steps.items():
                        of_it.steps.setdefault(step, []).append(seconds)
                    of_it.commits.append(commit_seconds(records))
            yield f"round {number} of {count}"


def report(counts: Sequence[int], measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """A row for each number of studies."""
    first = statistics.median(measured[0].totals)
    rows = []
    for count, of_it in zip(counts, measured, strict=True):
        total, commits = statistics.median(of_it.totals), statistics.median(of_it.commits)
        ratios = {
            step: round(taken / measured[0].milliseconds()[step], 2)
            for step, taken in of_it.milliseconds().items()
        }
        rows.append(
            {
                "studies": count,
                "ratio": round(total / first, 3),
                "of_limit": round(commits / total, 3),
                "milliseconds": round(1000 * total, 2),
                "commits_milliseconds": round(1000 * commits, 2),
                "steps_milliseconds": of_it.milliseconds(),
                "steps_ratios": ratios,
                "measured": len(of_it.totals),
                "database_bytes": of_it.size_bytes,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Ratios first, for people."""
    steps = list(rows[0]["steps_milliseconds"])
    head = ["studies", "x the fewest", "of the limit", "ms a study", *steps, "GB"]
    lines = []
    for row in rows:
        cells = [f"{row['studies']:,}", row["ratio"], row["of_limit"], row["milliseconds"]]
        cells += [*row["steps_milliseconds"].values(), round(row["database_bytes"] / 1e9, 2)]
        lines.append(cells)
    return markdown.table(head, lines)


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    counts = sorted(arguments.studies)
    with ExitStack() as stack:
        url = stack.enter_context(postgres.server(arguments.database_url))
        kept = bool(arguments.database_url)
        opened = [postgres.database(url, f"scale_{count}", kept=kept) for count in counts]
        all_records = [stack.enter_context(one) for one in opened]
        for records, count in zip(all_records, counts, strict=True):
            filled(records, count)
        measured = [Measured(years.size_bytes(records.engine)) for records in all_records]
        load = machine.load_average()
        try:
            for said in rounds(all_records, measured, arguments.rounds):
                print(f"\r{said:40}", end="", file=sys.stderr)
        except KeyboardInterrupt:
            print("\nended early", file=sys.stderr)
        settings = postgres.describe(url)
    rows = report(counts, measured)
    print("\n" + table(rows), file=sys.stderr)
    largest = rows[-1]["ratio"]
    words = "reached" if largest <= GOAL else "NOT reached"
    print(f"at most {GOAL} x with {counts[-1]:,} studies {words}: {largest}", file=sys.stderr)
    result = {
        "command": f"python -m benchmarks.scale --studies {' '.join(map(str, counts))}"
        f" --rounds {arguments.rounds}",
        "load_average": [load, machine.load_average()],
        "postgresql": settings,
        "goal": {"wanted": GOAL, "reached": largest, "met": largest <= GOAL},
        "rows": rows,
    }
    machine.report("scale", arguments.out, result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=_STUDIES)
    parser.add_argument("--rounds", type=int, default=15, help=f"of {_A_ROUND} studies in each database")
    parser.add_argument("--database-url", help="a server whose user may make databases, and is a superuser")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
