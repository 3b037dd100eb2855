"""What ``litegpt-node reconcile`` says, reckoned beside the requests, for it takes seconds on large records.

A page shows what was reckoned last and from when that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from service.records.database import Records, utc_now
from service.records.reconciliation import Sums, UnsettledStudy, sum_up, unsettled
from service.records.standing import Question, Verdict
from service.web.kept import Kept

OLDER_THAN: Final = timedelta(hours=1)
"""From what age an open study is stuck, as at the command line."""

LISTED: Final = 20

_FRESH_SECONDS: Final = 4.0
_MOST_OF_TIME: Final = 0.1


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What was so at one moment; ``stuck`` are the oldest of those."""

    at: datetime
    sums: Sums
    stuck: tuple[UnsettledStudy, ...]


def reckoning(records: Records) -> Kept[Reckoned]:
    """Reckons when it is asked, though never so often that the database does little else."""
    return Kept(
        "reckoning",
        partial(_reckon, records),
        _FRESH_SECONDS,
        most_of_time=_MOST_OF_TIME,
        survives_errors=True,
    )


def _reckon(records: Records) -> Reckoned:
    question = Question(utc_now(), OLDER_THAN)
    with records.snapshot() as session:
        sums = sum_up(session, question)
        stuck = tuple(unsettled(session, question, LISTED, (Verdict.STUCK,)))
    return Reckoned(question.now, sums, stuck)
