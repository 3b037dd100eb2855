"""What stands against removing studies for good, in words for the person who asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import timedelta

from sqlalchemy import false, func, not_, or_, select
from sqlalchemy.orm import Session

from service.actions.purging import waits_for_a_shadow
from service.archive import Archive, is_young
from service.records.commitments import AWAITED_BY_VALUE
from service.records.database import utc_now
from service.records.removal import of_study
from service.records.standing import Question, settled, standing
from service.records.states import CallState, JobState
from service.records.tables import (
    Analysis,
    Delivery,
    Instance,
    Result,
    RetrievalJob,
    RetrievalStudy,
    SafekeepingRequest,
    Study,
)

JOB_IS_OVER = (JobState.DONE, JobState.CANCELLED)

Hindrances = dict[str, list[str]]
"""By Study Instance UID; a study that is not in it may go."""


def against(session: Session, archive: Archive, uids: Collection[str], mixed: Collection[str]) -> Hindrances:
    """What stands against each of these studies; it stays true while the session holds the studies' rows.

    Args:
        session: Sees the records.
        archive: Nobody knows yet what becomes of files that have only just come.
        uids: Study Instance UIDs.
        mixed: Those with files of other patients.
    """
    found: Hindrances = defaultdict(list)
    studies = session.scalars(select(Study).where(Study.study_instance_uid.in_(uids))).all()
    for uid, state in _unsettled(session, [study.id for study in studies]):
        found[uid].append(f"it is not settled: {state}")
    for study in studies:
        found[study.study_instance_uid] += _waits(session, study)
    for uid in uids:
        found[uid] += _retrievals(session, uid)
        if uid in mixed:
            found[uid].append("it has files of other patients, too")
        if young_strangers(session, archive, uid):
            found[uid].append("a file of it has only just come")
    return {uid: reasons for uid, reasons in found.items() if reasons}


def young_strangers(session: Session, archive: Archive, uid: str) -> bool:
    """Whether a study has a file that no row names, and that is so new that one may yet."""
    study = select(Study.id).where(Study.study_instance_uid == uid)
    images = select(Instance.path).where(Instance.study_id.in_(study))
    results = select(Result.path).join(Analysis).where(Analysis.study_id.in_(study))
    named = {archive.absolute(path) for path in (*session.scalars(images), *session.scalars(results)) if path}
    return any(path not in named and is_young(path) for path in archive.files_of(uid))


def _unsettled(session: Session, study_ids: Collection[int]) -> list[tuple[str, str]]:
    """The UIDs of those that are not settled, and where they stand."""
    waiting = select(Study.id).where(Study.id.in_(study_ids), or_(not_(settled()), waits_for_a_shadow()))
    ids = session.scalars(waiting).all()
    if not ids:
        return []
    stand = standing(Question(utc_now(), timedelta()))
    rows = session.execute(select(stand.c.study_instance_uid, stand.c.state).where(stand.c.id.in_(ids)))
    return [(uid, state) for uid, state in rows]


def _waits(session: Session, study: Study) -> Iterator[str]:
    """What others were promised of a study, or are still to say of it."""
    awaited = select(Delivery.destination).where(of_study(study.id), AWAITED_BY_VALUE).distinct()
    for destination in session.scalars(awaited.order_by(Delivery.destination)):
        yield f"{destination} has not committed to what it got"
    until = session.scalar(select(func.max(Instance.committed_until)).where(Instance.study_id == study.id))
    if until is not None and until > utc_now():
        yield f"it is promised to a modality until {until:%Y-%m-%d %H:%M} UTC"
    uids = {image.sop_instance_uid for image in study.instances}
    due = select(SafekeepingRequest.ae_title).where(
        SafekeepingRequest.state == CallState.DUE,
        or_(false(), *(SafekeepingRequest.objects.contains(f'"{uid}"') for uid in sorted(uids))),
    )
    for ae_title in sorted(set(session.scalars(due))):
        yield f"{ae_title} waits to be told that it is kept"


def _retrievals(session: Session, uid: str) -> Iterator[str]:
    """Jobs that are not over and have found the study: they would bring it again."""
    jobs = (
        select(RetrievalJob.id)
        .join(RetrievalStudy, RetrievalStudy.job_id == RetrievalJob.id)
        .where(RetrievalStudy.study_instance_uid == uid, RetrievalJob.state.not_in(JOB_IS_OVER))
    )
    for job_id in session.scalars(jobs.order_by(RetrievalJob.id)):
        yield f"job {job_id} retrieves it"
