"""A study's row while its images come: begun with the first, locked for each, opened again by a late one.

Every image passes here. So the statements are written once, and are of the table and not of its class: an
object of a session's costs three times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.header import storable, texts
from service.received import ReceivedObject
from service.records.states import Priority, StudyState
from service.records.tables import Instance, Study

_STUDIES: Any = Study.__table__

_BEGIN: Final = {
    "postgresql": postgresql.insert(_STUDIES).on_conflict_do_nothing().returning(_STUDIES.c.id),
    "sqlite": sqlite.insert(_STUDIES).on_conflict_do_nothing().returning(_STUDIES.c.id),
}
_LOCK: Final = (
    select(_STUDIES.c.id, _STUDIES.c.state, _STUDIES.c.priority)
    .where(_STUDIES.c.study_instance_uid == bindparam("uid"))
    .with_for_update()
)
_THIS: Final = update(_STUDIES).where(_STUDIES.c.id == bindparam("this"))
_CAME: Final = _THIS.values(last_eligible_at=bindparam("now"))
_CAME_URGENTLY: Final = _CAME.values(priority=bindparam("urgency"))
_CAME_LATE: Final = _CAME_URGENTLY.values(state=StudyState.RECEIVING, receiving_since=bindparam("now"))
_ANY_ELIGIBLE: Final = select(exists().where(Instance.study_id == bindparam("this"), Instance.eligible))


@dataclass(frozen=True, slots=True)
class Receiving:
    """The row of a study of which an image has come, locked."""

    id: int
    state: str
    priority: int

    def came(self, connection: Connection, now: datetime, priority: Priority) -> None:
        """Takes note of an image that is to be analysed."""
        if self.state == StudyState.COMPLETE:
            connection.execute(_CAME_LATE, {"this": self.id, "now": now, "urgency": priority})
        elif priority < self.priority:
            connection.execute(_CAME_URGENTLY, {"this": self.id, "now": now, "urgency": priority})
        else:
            self.counts_from(connection, now)

    def counts_from(self, connection: Connection, now: datetime) -> None:
        """Has its quiet period, and its age, counted from now."""
        connection.execute(_CAME, {"this": self.id, "now": now})


def any_eligible(connection: Connection, study_id: int) -> bool:
    """Whether a study has an image that is to be analysed, or was."""
    return bool(connection.scalar(_ANY_ELIGIBLE, {"this": study_id}))


def begin(connection: Connection, received: ReceivedObject, priority: Priority, now: datetime) -> int | None:
    """Writes a study down of which an image has come, unless it is there; its row's id, or nothing.

    Two associations may bring a study's first images at once: one of them begins it.
    """
    values = {
        "study_instance_uid": received.study_instance_uid,
        "accession_number": _text(received, "AccessionNumber"),
        "study_date": _text(received, "StudyDate")[:8],
        "state": StudyState.RECEIVING,
        "receiving_since": now,
        "last_eligible_at": now,
        "priority": priority,
    }
    begun: int | None = connection.scalar(_BEGIN[connection.dialect.name], values)
    return begun


def lock(connection: Connection, received: ReceivedObject, priority: Priority, now: datetime) -> Receiving:
    """The row of an object's study, begun if it is not there."""
    named = {"uid": received.study_instance_uid}
    row = connection.execute(_LOCK, named).one_or_none()
    if row is None:
        begin(connection, received, priority, now)
        row = connection.execute(_LOCK, named).one()
    return Receiving(*row)


def _text(received: ReceivedObject, keyword: str) -> str:
    return storable("\\".join(texts(received.header, keyword)))
