"""What an admin sees of the records: each study's state, in one line or whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from sqlalchemy import or_, select, union_all
from sqlalchemy.orm import Session, selectinload

from service.errors import NotThere
from service.records.attempts import Attempt, History, history_of
from service.records.states import AnalysisState, DeliveryState, StudyState
from service.records.tables import (
    Analysis,
    AnalysisImage,
    Delivery,
    Instance,
    Result,
    Study,
    WebhookCall,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DELIVERED = frozenset({DeliveryState.SENT, DeliveryState.COMMITTED})

ENDED = (AnalysisState.DONE, AnalysisState.NOT_APPLICABLE)
"""Analyses after which only deliveries may be missing."""


class Outcome(StrEnum):
    """Where a study stands, in words that are no state of its analysis."""

    DELIVERING = "delivering"
    DELIVERED = "delivered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding as it is shown.

    Attributes:
        label: A label of the vocabulary.
        score: 0..1.
        box: Left, top, right, bottom in pixels, where it has one.
        box_score: How sure the model is of the box, given the label.
        reported: Whether results tell it; else it lies below the model's threshold.
    """

    label: str
    score: float
    box: tuple[float, float, float, float] | None
    box_score: float | None = None
    reported: bool = True


@dataclass(frozen=True, slots=True)
class ImageView:
    """An archived object, with what the study's newest analysis says about it; its file may be purged."""

    sop_instance_uid: str
    path: str
    received_at: datetime
    calling_ae_title: str
    state: str
    reason: str
    findings: tuple[FindingView, ...] = ()
    not_read: str = ""
    purged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One result, or image that is passed on, at one destination; ``sop_class`` says what it is, as DICOM
    names it. Purged: cannot be sent again. ``attempts``: how each ended, where they were asked for."""

    destination: str
    sop_class: str
    state: str
    attempt: int
    error: str
    sent_at: datetime | None
    path: str
    purged_at: datetime | None = None
    is_image: bool = False
    attempts: tuple[Attempt, ...] | None = None
    awaits_commitment: bool = False
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CallView:
    """The newest analysis as it is told to one webhook."""

    webhook: str
    state: str
    attempt: int
    error: str
    sent_at: datetime | None
    attempts: tuple[Attempt, ...] | None = None


@dataclass(frozen=True, slots=True)
class StudyView:
    """One study, from its first image to its last delivery.

    ``outcome`` says in a word where it stands: ``receiving``, an analysis state, ``delivering``,
    ``delivered``, ``refused``, or ``done`` where results have no destination. Images that are passed on, and
    webhook calls, count as long as they are due or refused.
    """

    study_instance_uid: str
    accession_number: str
    study_date: str
    outcome: str
    state: str
    analysis_id: int | None
    analysis_state: str
    attempt: int
    error: str
    model: str
    demonstration: bool
    images: tuple[ImageView, ...] = field(default=())
    deliveries: tuple[DeliveryView, ...] = field(default=())
    calls: tuple[CallView, ...] = field(default=())

    @property
    def reported_labels(self) -> tuple[str, ...]:
        """The labels that results tell, each once, the surest first."""
        reported = [one for image in self.images for one in image.findings if one.reported]
        reported.sort(key=lambda one: -one.score)
        return tuple(dict.fromkeys(one.label for one in reported))

    @property
    def remark(self) -> str:
        """What went wrong, where something did, and that images are gone."""
        errors = [self.error, *(one.error for one in self.deliveries), *(one.error for one in self.calls)]
        wrong = next(filter(None, errors), "")
        purged = f"images purged {self.purged_at:%Y-%m-%d}" if self.purged_at else ""
        return "; ".join(filter(None, (wrong, purged)))

    @property
    def last_eligible_at(self) -> datetime | None:
        """When the study's last analysed image arrived."""
        return max((image.received_at for image in self.images if not image.reason), default=None)

    @property
    def purged_at(self) -> datetime | None:
        """When the last of its images was purged that are purged now."""
        return max((image.purged_at for image in self.images if image.purged_at), default=None)

    def as_json(self) -> dict[str, Any]:
        """The same for a script; time stamps in ISO 8601."""
        return as_plain_dict(self)


def as_plain_dict(view: DataclassInstance) -> dict[str, Any]:
    """A dataclass, deep, as JSON can hold it; time stamps in ISO 8601."""
    return asdict(view, dict_factory=lambda items: {key: _plain(value) for key, value in items})


def list_studies(session: Session, limit: int = 100) -> list[StudyView]:
    """The studies that received something last, newest first."""
    last_first = (Study.last_eligible_at.desc(), Study.id)
    # State by state, as the index has them: else all studies would be sorted to show a few.
    newest = union_all(
        *(
            select(select(Study.id).where(Study.state == state).order_by(*last_first).limit(limit).subquery())
            for state in StudyState
        )
    ).subquery()
    studies = session.scalars(
        select(Study)
        .join(newest, newest.c.id == Study.id)
        .options(*with_everything())
        .order_by(*last_first)
        .limit(limit)
    )
    return [view_of(study) for study in studies]


def show_study(session: Session, name: str) -> StudyView:
    """One study by its Study Instance UID, its accession number, or the beginning of its UID, with each
    attempt to deliver its images and what is of its newest analysis.

    Raises:
        NotThere: If no study, or more than one, has that name.
    """
    study_id = study_called(session, name)
    study = session.scalars(select(Study).options(*with_everything()).where(Study.id == study_id)).one()
    return view_of(study, whole_history(session, study))


def study_called(session: Session, name: str) -> int:
    """The id of the study with this Study Instance UID, accession number, or beginning of its UID.

    Raises:
        NotThere: If no study, or more than one, has that name.
    """
    exact = or_(Study.study_instance_uid == name, Study.accession_number == name)
    ids = session.scalars(select(Study.id).where(exact).limit(2)).all()
    if not ids:
        begins = Study.study_instance_uid.startswith(name, autoescape=True)
        ids = session.scalars(select(Study.id).where(begins).limit(2)).all()
    if len(ids) != 1:
        raise NotThere(f"{'no' if not ids else 'more than one'} study is called {name}")
    return ids[0]


def views_of(session: Session, study_ids: Collection[int]) -> dict[int, StudyView]:
    """These studies, by their ids."""
    studies = session.scalars(select(Study).options(*with_everything()).where(Study.id.in_(study_ids)))
    return {study.id: view_of(study) for study in studies}


def with_everything() -> tuple[Any, ...]:
    """How a study is read for ``view_of``: with all that hangs on it."""
    return (
        selectinload(Study.instances).selectinload(Instance.deliveries),
        # Joined: by pairs of ids, SQLite would look for findings without an index.
        selectinload(Study.analyses).selectinload(Analysis.images).joinedload(AnalysisImage.findings),
        selectinload(Study.analyses).selectinload(Analysis.results).selectinload(Result.deliveries),
        selectinload(Study.analyses).selectinload(Analysis.calls),
    )


def whole_history(session: Session, study: Study) -> History:
    """Every attempt to deliver something of a study that was read ``with_everything``."""
    results = [result for analysis in study.analyses for result in analysis.results]
    delivered: list[Result | Instance] = [*results, *study.instances]
    deliveries = [delivery.id for one in delivered for delivery in one.deliveries]
    calls = [call.id for analysis in study.analyses for call in analysis.calls]
    return history_of(session, deliveries, calls)


def view_of(study: Study, history: History | None = None) -> StudyView:
    """A study that was read ``with_everything``, with the attempts at its deliveries where they are given."""
    analysis = next((one for one in reversed(study.analyses) if one.counts), None)
    deliveries = (*(_deliveries(analysis, history) if analysis else ()), *_forwards(study, history))
    calls = tuple(_call(call, history) for call in analysis.calls) if analysis else ()
    return StudyView(
        study_instance_uid=study.study_instance_uid,
        accession_number=study.accession_number,
        study_date=study.study_date,
        outcome=_outcome(study, analysis, deliveries, calls),
        state=study.state,
        analysis_id=analysis.id if analysis else None,
        analysis_state=analysis.state if analysis else "",
        attempt=analysis.attempt if analysis else 0,
        error=analysis.error if analysis else "",
        model=f"{analysis.model_id} {analysis.model_version}" if analysis else "",
        demonstration=analysis.demonstration if analysis else False,
        images=images_of(study, analysis),
        deliveries=deliveries,
        calls=calls,
    )


def _outcome(
    study: Study,
    analysis: Analysis | None,
    deliveries: tuple[DeliveryView, ...],
    calls: tuple[CallView, ...],
) -> str:
    if study.state == StudyState.RECEIVING or analysis is None:
        return StudyState.RECEIVING
    if analysis.state not in ENDED:
        return analysis.state
    # What went in the place of a replaced one has a delivery of its own; a withdrawn one needs none.
    states = {delivery.state for delivery in deliveries} | {call.state for call in calls}
    states -= {DeliveryState.REPLACED, DeliveryState.WITHDRAWN}
    if DeliveryState.REFUSED in states:
        return Outcome.REFUSED
    if not states <= DELIVERED:
        return Outcome.DELIVERING
    has_results = any(not delivery.is_image for delivery in deliveries)
    return Outcome.DELIVERED if analysis.state == AnalysisState.DONE and has_results else analysis.state


def images_of(study: Study, analysis: Analysis | None) -> tuple[ImageView, ...]:
    """A study's objects, with what one of its analyses says of each; it was read ``with_everything``."""
    read = {image.instance_id: image for image in analysis.images} if analysis else {}
    return tuple(
        ImageView(
            sop_instance_uid=instance.sop_instance_uid,
            path=instance.path,
            received_at=instance.received_at,
            calling_ae_title=instance.calling_ae_title,
            state=instance.state,
            reason=instance.reason,
            findings=_findings(read[instance.id]) if instance.id in read else (),
            not_read=read[instance.id].not_read if instance.id in read else "",
            purged_at=instance.purged_at,
        )
        for instance in study.instances
    )


def _findings(image: AnalysisImage) -> tuple[FindingView, ...]:
    return tuple(
        FindingView(row.label, row.score, row.corners, row.box_score, row.reported) for row in image.findings
    )


def _deliveries(analysis: Analysis, history: History | None) -> list[DeliveryView]:
    return [
        DeliveryView(
            delivery.destination,
            UID(result.sop_class_uid).name.removesuffix(" Storage"),
            delivery.state,
            delivery.attempt,
            delivery.error,
            delivery.sent_at,
            result.path,
            result.purged_at,
            attempts=history.of_delivery(delivery.id) if history else None,
            **_commitment(delivery),
        )
        for result in analysis.results
        for delivery in result.deliveries
    ]


def _commitment(row: Delivery) -> dict[str, Any]:
    awaits = row.state == DeliveryState.SENT and row.commitment_due_at is not None
    return {"awaits_commitment": awaits, "committed_at": row.committed_at}


def _call(row: WebhookCall, history: History | None) -> CallView:
    attempts = history.of_call(row.id) if history else None
    return CallView(row.webhook, row.state, row.attempt, row.error, row.sent_at, attempts)


def _forwards(study: Study, history: History | None) -> list[DeliveryView]:
    return [
        DeliveryView(
            delivery.destination,
            UID(instance.sop_class_uid).name.removesuffix(" Storage"),
            delivery.state,
            delivery.attempt,
            delivery.error,
            delivery.sent_at,
            instance.path,
            instance.purged_at,
            is_image=True,
            attempts=history.of_delivery(delivery.id) if history else None,
            **_commitment(delivery),
        )
        for instance in study.instances
        for delivery in instance.deliveries
    ]


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
