"""Conflicts: objects under a SOP Instance UID that had come with other pixels, held until an admin decides.

All of them stay in the archive. What is decided against is set aside: kept, and used for nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.records.states import InstanceState
from service.records.tables import Instance, Study

FIRST_KEPT: Final = "set aside: the first to come under its UID was kept"
LATER_TAKEN: Final = "set aside: a later one under its UID was taken"
"""Why an object is not analysed that was decided against."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the objects under a UID.

    Attributes:
        path: Of its file, relative to the archive's root.
        held: Whether it waits for the decision; else it is used.
        reason: Why its image is not read; empty where it is.
    """

    received_at: datetime
    calling_ae_title: str
    path: str
    size_bytes: int
    held: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """One SOP Instance UID, with what came under it, the first ones first."""

    study_instance_uid: str
    accession_number: str
    sop_instance_uid: str
    contenders: tuple[Contender, ...]


def list_conflicts(session: Session, limit: int = 100) -> list[Conflict]:
    """The conflicts of up to so many studies, in the order in which the studies came."""
    in_conflict = (
        select(Instance.study_id)
        .where(Instance.state == InstanceState.CONFLICT)
        .distinct()
        .order_by(Instance.study_id)
        .limit(limit)
    )
    study_ids = session.scalars(in_conflict).all()
    studies = session.scalars(select(Study).where(Study.id.in_(study_ids)).order_by(Study.id)).all()
    contending = contenders_of(session, study_ids)
    return [
        Conflict(study.study_instance_uid, study.accession_number, uid, tuple(map(_contender, objects)))
        for study in studies
        for uid, objects in contending[study.id].items()
    ]


def contenders_of(session: Session, study_ids: Sequence[int]) -> Mapping[int, Mapping[str, list[Instance]]]:
    """The objects of studies that are in conflict, or used under the UID of one that is: by study and UID."""
    held = select(Instance.sop_instance_uid).where(
        Instance.study_id.in_(study_ids), Instance.state == InstanceState.CONFLICT
    )
    rows = session.scalars(
        select(Instance)
        .where(
            Instance.study_id.in_(study_ids),
            Instance.sop_instance_uid.in_(held),
            Instance.set_aside_at.is_(None),
        )
        .order_by(Instance.id)
    )
    found: dict[int, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.study_id][row.sop_instance_uid].append(row)
    # The same UID in another study of these may be in no conflict.
    return defaultdict(
        dict,
        {
            study_id: {uid: objects for uid, objects in by_uid.items() if held_among(objects)}
            for study_id, by_uid in found.items()
        },
    )


def held_among(objects: Iterable[Instance]) -> list[Instance]:
    """Those that wait for the decision."""
    return [one for one in objects if one.state == InstanceState.CONFLICT]


def set_aside(objects: Iterable[Instance], why: str, now: datetime) -> None:
    """Decides against objects; their rows are the caller's to lock, and their files stay."""
    for one in objects:
        one.state, one.eligible, one.reason, one.set_aside_at = InstanceState.STORED, False, why, now


def _contender(row: Instance) -> Contender:
    return Contender(
        received_at=row.received_at,
        calling_ae_title=row.calling_ae_title,
        path=row.path,
        size_bytes=row.size_bytes,
        held=row.state == InstanceState.CONFLICT,
        reason=row.reason,
    )
