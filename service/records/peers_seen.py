"""Whether what the node sends to is up, as the last attempts at it have shown: a row each.

A peer that answers is up, also where it refuses what it is given; it is down while nothing reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.errors import NodeError, PeerFailed, PeerRefused, PeerUnavailable
from service.records.states import PeerKind
from service.records.tables import PeerSeen

PATIENCE: Final = timedelta(seconds=10)
"""A peer that has been down for no longer is tried whenever something is due there."""

LONGEST_REST: Final = timedelta(seconds=60)
"""A peer that is back waits no longer for what is due there."""


class Reach(StrEnum):
    """Whether a peer is up, in a word."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "nothing sent yet"


@dataclass(frozen=True, slots=True)
class Seen:
    """A peer as the last attempts have shown it.

    Attributes:
        last_success: When it last took something.
        last_failure, failure: When it last did not, and why.
        down_since: The first of the attempts in a row that did not reach it; ``None`` while it is up.
    """

    last_success: datetime | None = None
    last_failure: datetime | None = None
    failure: str = ""
    down_since: datetime | None = None

    @property
    def rests_until(self) -> datetime | None:
        """Until when it is left alone, so that waiting for it in vain does not delay the others.

        The longer it has been down, the longer: a minute at most. None while it is up, or has just gone down.
        """
        if self.down_since is None or self.last_failure is None:
            return None
        rest = min(self.last_failure - self.down_since - PATIENCE, LONGEST_REST)
        return self.last_failure + rest if rest > timedelta(0) else None

    def rests_at(self, now: datetime) -> bool:
        """Whether it is left alone at a moment; a failure of the future was before the clock was set back."""
        if self.rests_until is None or self.last_failure is None:
            return False
        return self.last_failure <= now + LONGEST_REST and now < self.rests_until

    @property
    def reach(self) -> Reach:
        """In a word."""
        if self.down_since is not None:
            return Reach.DOWN
        return Reach.UP if self.last_success or self.last_failure else Reach.UNKNOWN


@dataclass(slots=True)
class Contact:
    """What comes of one association, or call."""

    took: bool = False
    failure: str = ""
    _away: bool = False

    def succeeded(self) -> None:
        """The peer has taken something."""
        self.took = True

    def failed(self, error: NodeError) -> None:
        """Something was not taken; a fault of our own says nothing of the peer."""
        if isinstance(error, (PeerUnavailable, PeerFailed, PeerRefused)):
            self.failure = str(error)
            self._away = isinstance(error, PeerUnavailable)

    def turned_away(self, error: PeerRefused) -> None:
        """The peer does not want us at all, whatever we bring."""
        self.failure, self._away = str(error), True

    @property
    def is_down(self) -> bool:
        """Whether nothing reached the peer."""
        return self._away and not self.took

    def __bool__(self) -> bool:
        return self.took or bool(self.failure)


def note(session: Session, kind: PeerKind, name: str, contact: Contact, now: datetime) -> None:
    """Writes down what came of a contact that has just ended, if anything did."""
    if not contact:
        return
    dialect: Any = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    told: dict[str, Any] = {"down_since": now if contact.is_down else None}
    if contact.took:
        told["last_success_at"] = now
    if contact.failure:
        told |= {"last_failure_at": now, "failure": contact.failure}
    row = dialect.insert(PeerSeen).values({"kind": kind, "name": name, "failure": "", **told})
    again = {column: row.excluded[column] for column in told}
    if contact.is_down:
        again["down_since"] = func.coalesce(PeerSeen.down_since, row.excluded.down_since)
    session.execute(row.on_conflict_do_update(index_elements=["kind", "name"], set_=again))


def seen(session: Session, kind: PeerKind) -> dict[str, Seen]:
    """The peers of a kind that anything was ever sent to, by name."""
    rows = session.scalars(select(PeerSeen).where(PeerSeen.kind == kind))
    return {
        row.name: Seen(row.last_success_at, row.last_failure_at, row.failure, row.down_since) for row in rows
    }


def resting(session: Session, kind: PeerKind, now: datetime) -> set[str]:
    """The names of those that are down and are left alone at this moment."""
    return {name for name, peer in seen(session, kind).items() if peer.rests_at(now)}
