"""What modalities may delete because the node keeps it for some time: storage commitment as SCP (PS3.4 J).

A request is written down as it came, and answered later: first each object is judged, in one transaction with
the promise to keep its file, then the modality is told, until it has heard it. A purge locks the studies that
it takes from, as a promise does, so that no file goes that was just promised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, func, select, update
from sqlalchemy.orm import Session

from service.archive import Archive
from service.errors import OutOfResources
from service.records.database import Records, utc_now
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import CallState
from service.records.tables import Instance, SafekeepingRequest, Study

NO_SUCH_OBJECT: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """An object that was asked for.

    Attributes:
        failure: Failure Reason; 0 where it is kept.
    """

    sop_class_uid: str
    sop_instance_uid: str
    failure: int = 0


@dataclass(frozen=True, slots=True)
class RequestClaim:
    """A request that this worker may answer until its lease ends."""

    request_id: int
    attempt: int
    ae_title: str
    transaction_uid: str
    created_at: datetime
    objects: tuple[Judged, ...]
    is_judged: bool


def kept(now: datetime) -> ColumnElement[bool]:
    """Whether ``Study`` has an image that the node has promised to keep until a later time than this."""
    return exists().where(Instance.study_id == Study.id, Instance.committed_until > now)


def take(records: Records, ae_title: str, transaction_uid: str, objects: Sequence[Judged]) -> None:
    """Writes down what a modality asks; the same transaction once more is answered once more.

    Raises:
        OutOfResources: If the records are away.
    """
    now = utc_now()
    with records.writing() as session:
        same = (
            SafekeepingRequest.ae_title == ae_title,
            SafekeepingRequest.transaction_uid == transaction_uid,
        )
        row = session.scalars(select(SafekeepingRequest).where(*same).with_for_update()).one_or_none()
        if row is None:
            row = SafekeepingRequest(ae_title=ae_title, transaction_uid=transaction_uid, created_at=now)
            session.add(row)
        row.objects, row.judged_at = _as_json(objects), None
        row.state, row.not_before = CallState.DUE, now


def count_due(session: Session) -> int:
    """How many requests are to be answered now."""
    return session.scalar(select(func.count()).select_from(SafekeepingRequest).where(_is_due())) or 0


def claim(records: Records, lease: timedelta) -> RequestClaim | None:
    """Claims the request that is due longest; None where none is."""
    with records.writing() as session:
        row = session.scalars(
            select(SafekeepingRequest)
            .where(_is_due())
            .order_by(SafekeepingRequest.not_before, SafekeepingRequest.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        row.attempt += 1
        row.not_before = utc_now() + lease
        return RequestClaim(
            row.id,
            row.attempt,
            row.ae_title,
            row.transaction_uid,
            row.created_at,
            tuple(Judged(*one) for one in json.loads(row.objects)),
            row.judged_at is not None,
        )


def judge(records: Records, archive: Archive, request: RequestClaim, keep: timedelta) -> tuple[Judged, ...]:
    """Promises to keep what is there for so long; once for each request, whatever becomes of its report.

    Raises:
        OutOfResources: If the archive is not there: nothing can be said of its files.
        LeaseLost: If another worker has taken the request up since.
    """
    if request.is_judged:
        return request.objects
    archive.require_there()
    now = utc_now()
    with records.writing() as session:
        rows = _locked(session, [one.sop_instance_uid for one in request.objects])
        judged = tuple(_judged(one, rows, archive) for one in request.objects)
        for one in judged:
            for instance in [] if one.failure else rows[one.sop_instance_uid]:
                until = now + keep
                instance.committed_until = max(instance.committed_until or until, until)
        session.flush()
        _write(session, request, objects=_as_json(judged), judged_at=now)
    return judged


def _locked(session: Session, uids: Sequence[str]) -> dict[str, list[Instance]]:
    """The instances under these UIDs that are not purged, with their studies held against a purge."""
    found: dict[str, list[Instance]] = {}
    parts = [uids[start : start + _AT_ONCE] for start in range(0, len(uids), _AT_ONCE)]
    studies: set[int] = set()
    for part in parts:
        studies.update(session.scalars(select(Instance.study_id).where(Instance.sop_instance_uid.in_(part))))
    for study_id in sorted(studies):  # in the order in which a purge locks them
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update()).all()
    for part in parts:
        rows = select(Instance).where(Instance.sop_instance_uid.in_(part), Instance.purged_at.is_(None))
        for row in session.scalars(rows.order_by(Instance.id)):
            found.setdefault(row.sop_instance_uid, []).append(row)
    return found


def _judged(asked: Judged, rows: dict[str, list[Instance]], archive: Archive) -> Judged:
    there = rows.get(asked.sop_instance_uid, [])
    if not there or not all(_is_whole(row, archive) for row in there):
        failure = NO_SUCH_OBJECT
    elif any(row.sop_class_uid != asked.sop_class_uid for row in there):
        failure = CLASS_INSTANCE_CONFLICT
    else:
        failure = 0
    return Judged(asked.sop_class_uid, asked.sop_instance_uid, failure)


def _is_whole(row: Instance, archive: Archive) -> bool:
    """Whether its file is there, in its size.

    Raises:
        OutOfResources: If that cannot be told just now.
    """
    try:
        return bool(row.path) and archive.absolute(row.path).stat().st_size == row.size_bytes
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutOfResources(f"the archive: {error.strerror}") from error


def told(records: Records, request: RequestClaim) -> None:
    """Writes that the modality has the report.

    Raises:
        LeaseLost: If another worker has taken the request up since.
    """
    with records.writing() as session:
        _write(session, request, state=CallState.SENT, error="", sent_at=utc_now())


def refused(records: Records, request: RequestClaim, error: str) -> None:
    """Writes that the modality will not have the report; what was promised is kept all the same.

    Raises:
        LeaseLost: If another worker has taken the request up since.
    """
    with records.writing() as session:
        _write(session, request, state=CallState.REFUSED, error=error)


def postpone(records: Records, request: RequestClaim, error: str, retry: Retry) -> None:
    """Puts the report off.

    Raises:
        LeaseLost: If another worker has taken the request up since.
    """
    with records.writing() as session:
        _write(session, request, error=error, not_before=utc_now() + retry.wait(request.attempt))


def _as_json(objects: Sequence[Judged]) -> str:
    return json.dumps([(one.sop_class_uid, one.sop_instance_uid, one.failure) for one in objects])


def _is_due() -> Any:
    due = SafekeepingRequest.state == CallState.DUE
    return and_(due, SafekeepingRequest.not_before <= utc_now())


def _write(session: Session, request: RequestClaim, **values: object) -> None:
    ours = (SafekeepingRequest.id == request.request_id, SafekeepingRequest.attempt == request.attempt)
    lost = f"request {request.transaction_uid}: attempt {request.attempt} is over"
    due = SafekeepingRequest.state == CallState.DUE
    write_while_held(session, update(SafekeepingRequest).where(*ours, due).values(**values), lost)
