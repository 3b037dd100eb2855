"""What names a study or a patient in rows that are not the study's: of jobs, the audit, modalities' requests.

The audit keeps who did what and when; the study's UID and accession number in it become a digest. Whoever has
the UID from elsewhere, such as the PACS, can tell by the digest what was done, and nobody else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, delete, or_, select
from sqlalchemy.orm import Session

from service.erasing.hindrances import JOB_IS_OVER
from service.patient import comparable
from service.records.tables import AuditEvent, RetrievalJob, RetrievalStudy, SafekeepingRequest

ACTION: Final = "purge patient"
"""What the audit calls it; such an event holds the study's UID until it is over."""

ERASED: Final = "erased"
"""What stands in a job's filters where a patient's id or an accession number stood."""

_SHORTEST_BEGINNING: Final = 5
"""Characters; less of a UID is what all of a vendor's begin with, and names no study."""


@dataclass(frozen=True, slots=True)
class Names:
    """By which other rows know a study."""

    study_instance_uid: str
    accession_number: str
    sop_instance_uids: Sequence[str]

    def means(self, text: str) -> bool:
        """Whether a text is one of the study's two names, or a beginning of its UID."""
        begins = len(text) >= _SHORTEST_BEGINNING and self.study_instance_uid.startswith(text)
        return begins or (bool(text) and text == self.accession_number)


def digest_of(study_instance_uid: str) -> str:
    """What the audit calls a study that was erased."""
    return f"sha256:{hashlib.sha256(study_instance_uid.encode()).hexdigest()}"


def forget_study(session: Session, names: Names) -> int:
    """Removes a study's names from all rows but its own; how many rows those were is returned."""
    uid = names.study_instance_uid
    done = session.execute(delete(RetrievalStudy).where(RetrievalStudy.study_instance_uid == uid))
    deleted = cast("CursorResult[Any]", done).rowcount
    return deleted + _in_jobs(session, names) + _in_requests(session, names) + _in_audit(session, names)


def forget_patient(session: Session, patient_id: str) -> int:
    """Removes a patient's id from jobs that are over; how many they were is returned."""
    changed = 0
    for job in _asking_for(session, patient_id, RetrievalJob.state.in_(JOB_IS_OVER)):
        job.filters = json.dumps(json.loads(job.filters) | {"patient_id": ERASED})
        changed += 1
    return changed


def jobs_that_ask_for(session: Session, patient_id: str) -> list[int]:
    """The jobs that are not over and ask for a patient by the id."""
    return [job.id for job in _asking_for(session, patient_id, RetrievalJob.state.not_in(JOB_IS_OVER))]


def _asking_for(session: Session, patient_id: str, which: ColumnElement[bool]) -> Iterator[RetrievalJob]:
    for job in session.scalars(_jobs_with(patient_id).where(which).order_by(RetrievalJob.id)):
        if comparable(json.loads(job.filters).get("patient_id", "")) == patient_id:
            yield job


def _jobs_with(text: str) -> Any:
    """Jobs whose filters may hold a text, as it is or with its characters escaped."""
    return select(RetrievalJob).where(
        or_(*(RetrievalJob.filters.contains(one, autoescape=True) for one in _written(text)))
    )


def _written(text: str) -> set[str]:
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _in_jobs(session: Session, names: Names) -> int:
    changed = 0
    uid, number = names.study_instance_uid, names.accession_number
    for job in session.scalars(select(RetrievalJob).where(RetrievalJob.error.contains(uid))):
        job.error = job.error.replace(uid, digest_of(uid))
        changed += 1
    if not number:
        return changed
    # By position: a job that is under way counts the numbers that it has asked for.
    for job in session.scalars(_jobs_with(number).where(RetrievalJob.state.in_(JOB_IS_OVER))):
        filters = json.loads(job.filters)
        asked = filters.get("accession_numbers", [])
        if number in asked:
            filters["accession_numbers"] = [ERASED if one == number else one for one in asked]
            job.filters = json.dumps(filters)
            changed += 1
    return changed


def _in_requests(session: Session, names: Names) -> int:
    """Modalities' requests to commit, which list objects."""
    gone, changed = set(names.sop_instance_uids), 0
    for uid in names.sop_instance_uids:
        for row in session.scalars(
            select(SafekeepingRequest).where(SafekeepingRequest.objects.contains(f'"{uid}"'))
        ):
            left = [one for one in json.loads(row.objects) if one[1] not in gone]
            changed += 1
            if left:
                row.objects = json.dumps(left)
            else:
                session.delete(row)
        session.flush()
    return changed


def _in_audit(session: Session, names: Names) -> int:
    begins = {f'"{names.study_instance_uid[:_SHORTEST_BEGINNING]}'}
    numbers = {f'"{one}"' for one in _written(names.accession_number) if one}
    holds = (AuditEvent.asked.contains(text, autoescape=True) for text in sorted(begins | numbers))
    changed = 0
    for event in session.scalars(select(AuditEvent).where(AuditEvent.action != ACTION, or_(*holds))):
        asked = json.loads(event.asked)
        told = asked | {"studies": _replaced(asked.get("studies"), names)} if "studies" in asked else asked
        if told != asked:
            event.asked = json.dumps(told)
            changed += 1
    return changed


def _replaced(value: Any, names: Names) -> Any:
    """The same JSON, with a digest for each text that names the study."""
    if isinstance(value, str):
        return digest_of(names.study_instance_uid) if names.means(value) else value
    if isinstance(value, list):
        return [_replaced(one, names) for one in value]
    if isinstance(value, dict):
        return {key: _replaced(one, names) for key, one in value.items()}
    return value
