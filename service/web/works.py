"""What takes longer than a request: it runs in a thread beside them, and its page tells how far it is."""

from __future__ import annotations

import logging
import secrets
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from service.errors import Busy, NodeError
from service.records.database import Records

log = logging.getLogger(__name__)

_KEPT: Final = 100


@dataclass(slots=True, kw_only=True)
class Work(ABC):
    """One of them; what is to be done is its kind's to say.

    Attributes:
        id: Names it in its page's address.
        who: The user who asked.
        error: Why it broke off.
        ended: Set at its end, whatever that is.
    """

    who: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    error: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    @abstractmethod
    def do(self, records: Records) -> None:
        """Does it, to the end."""

    @abstractmethod
    def __str__(self) -> str:
        """What goes on, and how far it is, in words for who has to wait for it."""


Kind = TypeVar("Kind", bound=Work)


class Works(Generic[Kind]):
    """Those that go on and the last of those before, in this process's memory."""

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._works: OrderedDict[str, Kind] = OrderedDict()

    def find(self, work_id: str) -> Kind | None:
        """The one of that id, unless it is long over."""
        return self._works.get(work_id)

    def going_on(self) -> list[Kind]:
        """Those that have not ended, the oldest first."""
        return [work for work in list(self._works.values()) if not work.ended.is_set()]

    def begin(self, records: Records, work: Kind) -> None:
        """Begins it in a thread of its own.

        Raises:
            Busy: If as many go on as may.
        """
        with self._lock:
            busy = self.going_on()
            if len(busy) >= self._at_once:
                at_once = "is one" if self._at_once == 1 else f"are {self._at_once}"
                raise Busy(f"{busy[0]}. There {at_once} at a time: try again when it is done.")
            self._works[work.id] = work
            while len(self._works) > _KEPT:
                self._works.popitem(last=False)
        threading.Thread(target=_run, args=(records, work), name=f"work {work.id}", daemon=True).start()


def _run(records: Records, work: Work) -> None:
    try:
        work.do(records)
    except NodeError as error:
        work.error = str(error)
    except Exception:  # the thread's edge
        log.exception("broke off: %s", work)
        work.error = "it broke off; the node's log says why"
    finally:
        work.ended.set()
