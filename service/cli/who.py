"""Who is at the command line, and what they read, for the audit."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.records.database import Records
from service.records.journal import write_down


def who() -> str:
    """Who asks, for the audit."""
    return f"{getpass.getuser()}, command line"


@contextmanager
def written_down(records: Records, action: str, asked: Mapping[str, Any]) -> Iterator[Counter[str]]:
    """Has it in the audit that somebody read what is in the records: how much, is for the block to count.

    However the block ends: what was written to standard output before it broke off has been read.
    """
    outcome: Counter[str] = Counter()
    try:
        yield outcome
    finally:
        with records.writing() as session:
            write_down(session, who(), action, outcome, **asked)
