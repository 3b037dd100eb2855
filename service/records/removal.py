"""Removing a study: every row that hangs on it, then its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.orm import Session

from service.archive import Archive
from service.errors import NeverAgain
from service.records.database import Records
from service.records.tables import (
    Analysis,
    AnalysisImage,
    AnalysisState,
    Delivery,
    DeliveryState,
    Finding,
    Instance,
    Result,
    Study,
    StudyState,
)

log = logging.getLogger(__name__)


def remove_study(records: Records, archive: Archive, study_instance_uid: str) -> None:
    """Removes a study of which nothing is under way, rows first: no row ever names a file that is gone.

    Raises:
        NeverAgain: If there is no such study, or it is not settled yet.
        OutOfResources: If the database is away.
    """
    with records.writing() as session:
        study = session.scalars(
            select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
        ).one_or_none()
        if study is None:
            raise NeverAgain(f"no such study: {study_instance_uid}")
        if _is_under_way(session, study):
            raise NeverAgain(f"study {study_instance_uid} is still under way")
        paths = _paths(session, study.id)
        _delete_rows(session, study.id)
    archive.remove(paths)
    log.info("study %s: removed with %d files", study_instance_uid, len(paths))


def _is_under_way(session: Session, study: Study) -> bool:
    waiting = Analysis.state.in_((AnalysisState.QUEUED, AnalysisState.RUNNING))
    due = exists().where(
        Result.analysis_id == Analysis.id,
        Delivery.result_id == Result.id,
        Delivery.state == DeliveryState.DUE,
    )
    of_study = select(Analysis.id).where(Analysis.study_id == study.id, or_(waiting, due)).limit(1)
    return study.state == StudyState.RECEIVING or session.scalars(of_study).first() is not None


def _paths(session: Session, study_id: int) -> Sequence[str]:
    images = session.scalars(select(Instance.path).where(Instance.study_id == study_id)).all()
    results = select(Result.path).join(Analysis, Analysis.id == Result.analysis_id)
    return [*images, *session.scalars(results.where(Analysis.study_id == study_id))]


def _delete_rows(session: Session, study_id: int) -> None:
    analyses = select(Analysis.id).where(Analysis.study_id == study_id)
    results = select(Result.id).where(Result.analysis_id.in_(analyses))
    for statement in (
        delete(Delivery).where(Delivery.result_id.in_(results)),
        delete(Result).where(Result.analysis_id.in_(analyses)),
        delete(Finding).where(Finding.analysis_id.in_(analyses)),
        delete(AnalysisImage).where(AnalysisImage.analysis_id.in_(analyses)),
        delete(Analysis).where(Analysis.study_id == study_id),
        delete(Instance).where(Instance.study_id == study_id),
        delete(Study).where(Study.id == study_id),
    ):
        session.execute(statement.execution_options(synchronize_session=False))
