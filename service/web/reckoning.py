"""What ``litegpt-node reconcile`` says, reckoned beside the requests, for it takes seconds on large records.

A page shows what was reckoned last and from when that is; who asks for it has it reckoned anew, though never
so often that the database does little else.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.errors import NodeError
from service.records.database import Records, utc_now
from service.records.reconciliation import Sums, UnsettledStudy, sum_up, unsettled
from service.records.standing import Question, Verdict

log = logging.getLogger(__name__)

OLDER_THAN: Final = timedelta(hours=1)
"""From what age an open study is stuck, as at the command line."""

LISTED: Final = 20

_FRESH_SECONDS: Final = 4.0
_SHARE: Final = 10.0
"""How many times as long as the last reckoning took there is none."""

_AT_ONCE_SECONDS: Final = 0.3
"""How long a page waits for the first one, and for one that takes no longer than this."""


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What was so at one moment; ``stuck`` are the oldest of those."""

    at: datetime
    sums: Sums
    stuck: tuple[UnsettledStudy, ...]


class Reckoning:
    """Reckons in one thread at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._last: Reckoned | None = None
        self._not_before = self._took = 0.0

    def ask(self, records: Records) -> Reckoned | None:
        """What was reckoned last; ``None`` where the first is not done yet."""
        with self._lock:
            if self._idle.is_set() and time.monotonic() >= self._not_before:
                self._idle.clear()
                threading.Thread(target=self._run, args=(records,), name="reckoning", daemon=True).start()
        if self._last is None or self._took < _AT_ONCE_SECONDS:
            self._idle.wait(_AT_ONCE_SECONDS)
        return self._last

    def _run(self, records: Records) -> None:
        begun = time.monotonic()
        try:
            self._last = _reckon(records)
        except NodeError as error:
            log.warning("the studies could not be reconciled: %s", error)
        except Exception:  # the thread's edge
            log.exception("reconciling the studies broke off")
        finally:
            now = time.monotonic()
            self._took = now - begun
            self._not_before = now + max(_FRESH_SECONDS, _SHARE * self._took)
            self._idle.set()


def _reckon(records: Records) -> Reckoned:
    question = Question(utc_now(), OLDER_THAN)
    with records.snapshot() as session:
        sums = sum_up(session, question)
        stuck = tuple(unsettled(session, question, LISTED, (Verdict.STUCK,)))
    return Reckoned(question.now, sums, stuck)
