"""Removing one study for good: its rows in one transaction, then its files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, delete, or_, select
from sqlalchemy.orm import Session

from service.archive import Archive
from service.errors import NeverAgain, OutOfResources, StillInWork
from service.records import attempts
from service.records.database import Records
from service.records.states import WAITING, CallState, DeliveryState, StudyState
from service.records.tables import (
    Analysis,
    AnalysisImage,
    Delivery,
    Finding,
    Instance,
    Result,
    Study,
    WebhookCall,
)


def remove_study(records: Records, archive: Archive, study_instance_uid: str) -> int:
    """Removes a study with its instances, analyses, findings, results, deliveries and files.

    What was delivered stays where it is. A crash between rows and files leaves files that nothing names.

    Returns:
        How many files there were.

    Raises:
        StillInWork: If it still receives, or an analysis or a delivery of it is not over.
        NeverAgain: If there is no such study.
        OutOfResources: If the database or the disk would not do it just now.
    """
    with records.writing() as session:
        study_id = session.scalar(
            select(Study.id).where(Study.study_instance_uid == study_instance_uid).with_for_update()
        )
        if study_id is None:
            raise NeverAgain(f"no such study: {study_instance_uid}")
        _require_over(session, study_id)
        inodes = _inodes(archive, _paths(session, study_id))
        delete_rows(session, study_id)
    for path, inode in inodes.items():
        archive.remove(path, inode)
    return len(inodes)


def _require_over(session: Session, study_id: int) -> None:
    """Looks whether all work on the study has ended, and holds the rows so that none begins again."""
    state = session.scalar(select(Study.state).where(Study.id == study_id))
    if state == StudyState.RECEIVING:
        raise StillInWork("the study is still receiving")
    analyses = session.scalars(
        select(Analysis.state).where(Analysis.study_id == study_id).with_for_update()
    ).all()
    if waiting := set(analyses) & set(WAITING):
        raise StillInWork(f"an analysis of the study is {min(waiting)}")
    deliveries = session.scalars(select(Delivery.state).where(of_study(study_id)).with_for_update()).all()
    if DeliveryState.DUE in deliveries:
        raise StillInWork("a result or an image of the study is due for delivery")
    calls = select(WebhookCall.state).join(Analysis).where(Analysis.study_id == study_id)
    if CallState.DUE in session.scalars(calls.with_for_update(of=WebhookCall)).all():
        raise StillInWork("a webhook is due to be told of the study")


def _paths(session: Session, study_id: int) -> list[str]:
    images = session.scalars(select(Instance.path).where(Instance.study_id == study_id)).all()
    results = session.scalars(select(Result.path).where(Result.id.in_(_results(study_id)))).all()
    return [path for path in (*images, *results) if path]


def _inodes(archive: Archive, paths: Iterable[str]) -> dict[str, int]:
    """The files that are there: one that comes to such a place later is another one, and stays."""
    inodes = {}
    for path in paths:
        try:
            inodes[path] = archive.absolute(path).stat().st_ino
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error
    return inodes


def delete_rows(session: Session, study_id: int) -> int:
    """Deletes a study's row, which is locked, and all that hang on it; how many they were is returned."""
    _hold(session, study_id)
    deleted = attempts.forget(session, [study_id])
    analyses = select(Analysis.id).where(Analysis.study_id == study_id)
    for statement in (
        delete(Delivery).where(of_study(study_id)),
        delete(WebhookCall).where(WebhookCall.analysis_id.in_(analyses)),
        delete(Result).where(Result.analysis_id.in_(analyses)),
        delete(Finding).where(Finding.analysis_id.in_(analyses)),
        delete(AnalysisImage).where(AnalysisImage.analysis_id.in_(analyses)),
        delete(Analysis).where(Analysis.study_id == study_id),
        delete(Instance).where(Instance.study_id == study_id),
        delete(Study).where(Study.id == study_id),
    ):
        done = session.execute(statement.execution_options(synchronize_session=False))
        deleted += cast("CursorResult[Any]", done).rowcount
    return deleted


def _hold(session: Session, study_id: int) -> None:
    """Locks what a worker may have in hand, so that it hangs no new rows on what is being deleted."""
    calls = select(WebhookCall.id).join(Analysis).where(Analysis.study_id == study_id)
    for rows in (
        select(Analysis.id).where(Analysis.study_id == study_id).with_for_update(),
        select(Delivery.id).where(of_study(study_id)).with_for_update(),
        calls.with_for_update(of=WebhookCall),
    ):
        session.execute(rows).all()


def of_study(study_id: int) -> ColumnElement[bool]:
    """Of deliveries: those of a study's results and images."""
    images = select(Instance.id).where(Instance.study_id == study_id)
    return or_(Delivery.result_id.in_(_results(study_id)), Delivery.instance_id.in_(images))


def _results(study_id: int) -> Select[Any]:
    made = select(Result.id).join(Analysis, Analysis.id == Result.analysis_id)
    return made.where(Analysis.study_id == study_id)
