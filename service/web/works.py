"""Actions on many studies, beside the requests: one at a time, with its progress; a rehearsal first."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from service.actions.action import Action, Course, Tally
from service.errors import Busy, NodeError
from service.records.database import Records
from service.records.selection import Selection

log = logging.getLogger(__name__)

_KEPT: Final = 100


@dataclass(slots=True)
class Work:
    """One of them.

    Attributes:
        id: Names it in its page's address.
        who: The user who asked.
        action, selection: What, and of which studies.
        asked: The selection and the options as they were posted, to post them again after the rehearsal.
        rehearsal: Whether it leaves no trace.
        studies: How many it has come past.
        tally: What came of it; ``None`` while it goes on, or where it broke off.
        error: Why it broke off.
    """

    who: str
    action: Action
    selection: Selection
    asked: tuple[tuple[str, str], ...]
    rehearsal: bool
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    studies: int = 0
    tally: Tally | None = None
    error: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


class Works:
    """The present one and the last of those before, in this process's memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: OrderedDict[str, Work] = OrderedDict()

    def find(self, work_id: str) -> Work | None:
        """The one of that id, unless it is long over."""
        return self._works.get(work_id)

    def begin(self, records: Records, work: Work) -> None:
        """Begins it in a thread of its own.

        Raises:
            Busy: If there is another going on.
        """
        with self._lock:
            busy = next((one for one in self._works.values() if not one.ended.is_set()), None)
            if busy is not None:
                raise Busy(
                    f"{busy.who} has another {busy.action.name} going on, {busy.studies:,} studies so far. "
                    "There is one at a time: try again when it is done."
                )
            self._works[work.id] = work
            while len(self._works) > _KEPT:
                self._works.popitem(last=False)
        threading.Thread(target=_run, args=(records, work), name=f"work {work.id}", daemon=True).start()


def _run(records: Records, work: Work) -> None:
    def note(studies: int) -> None:
        work.studies += studies

    try:
        course = Course(records, work.who, work.rehearsal, note)
        work.tally = course.run(work.action, work.selection)
    except NodeError as error:
        work.error = str(error)
    except Exception:  # the thread's edge
        log.exception("%s by %s broke off", work.action.name, work.who)
        work.error = "it broke off; the node's log says why"
    finally:
        work.ended.set()
