"""One study with its whole history: every image, every analysis, every result and where it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.uid import UID
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NotThere
from service.records.attempts import Attempt, History, failures
from service.records.journal import Event, events_of_study
from service.records.overview import (
    ImageView,
    StudyView,
    images_of,
    view_of,
    whole_history,
    with_everything,
)
from service.records.reasons import Reason, reasons_of
from service.records.states import AnalysisState, DeliveryState, Priority, Purpose
from service.records.tables import Analysis, Delivery, Instance, Result, Study, WebhookCall


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An archived object: where it is, what the newest analysis says about it, and where it is passed on."""

    id: int
    digest: str
    sop_class: str
    size_bytes: int
    view: ImageView
    deliveries: tuple[DeliveryHistory, ...]


@dataclass(frozen=True, slots=True)
class DeliveryHistory:
    """One result or image at one destination.

    Attributes:
        not_before: When a due one is tried next.
        attempts: How each before ended, the first ones first.
        commitment_due_at: When the destination is asked (again) to commit to it; None where it need not be.
    """

    id: int
    destination: str
    state: str
    priority: Priority
    attempt: int
    error: str
    not_before: datetime
    sent_at: datetime | None
    attempts: tuple[Attempt, ...]
    commitment_due_at: datetime | None = None
    commitment_asks: int = 0
    committed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ResultHistory:
    """One DICOM object that was made, and where it went."""

    id: int
    sop_class: str
    sop_instance_uid: str
    path: str
    created_at: datetime
    purged_at: datetime | None
    deliveries: tuple[DeliveryHistory, ...]


@dataclass(frozen=True, slots=True)
class CallHistory:
    """One webhook that is told of an analysis; ``not_before`` is when a due call is tried next."""

    id: int
    webhook: str
    state: str
    attempt: int
    error: str
    not_before: datetime
    created_at: datetime
    sent_at: datetime | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class AnalysisHistory:
    """One analysis from its beginning to its end; by a shadow, it is beside what the study is judged by."""

    id: int
    model: str
    demonstration: bool
    shadow: bool
    state: str
    priority: Priority
    attempt: int
    error: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    results: tuple[ResultHistory, ...]
    calls: tuple[CallHistory, ...]


@dataclass(frozen=True, slots=True)
class ShadowReading:
    """What a shadow found, for comparison alone: the study is not judged by it.

    Attributes:
        images: Those that it was given, with what it says of them.
    """

    analysis_id: int
    model: str
    demonstration: bool
    finished_at: datetime | None
    images: tuple[StoredImage, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it would report, each once."""
        found = (one for image in self.images for one in image.view.findings if one.reported)
        return tuple(dict.fromkeys(one.label for one in found))


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything about one study; analyses newest first.

    Attributes:
        study: Where it stands, by its newest analysis.
        shadows: What shadows have found, the newest of each.
        reasons: Why it is not settled.
        events: What people did with it, newest first.
    """

    study: StudyView
    received_at: datetime
    completed_at: datetime | None
    images: tuple[StoredImage, ...]
    analyses: tuple[AnalysisHistory, ...]
    shadows: tuple[ShadowReading, ...]
    reasons: tuple[Reason, ...]
    events: tuple[Event, ...]

    def timeline(self) -> list[Moment]:
        """What happened, in order."""
        moments = [Moment(image.view.received_at, _received(image.view)) for image in self.images]
        moments += [moment for image in self.images for moment in _of_forwards(image)]
        if self.completed_at:
            moments.append(Moment(self.completed_at, "complete"))
        for analysis in self.analyses:
            moments += _of_analysis(analysis)
        moments += [Moment(event.at, f"{event.action} by {event.who}") for event in self.events]
        return sorted(moments, key=lambda moment: moment.at)


def dossier_of(session: Session, uid: str) -> Dossier:
    """The study with this Study Instance UID.

    Raises:
        NotThere: If there is none.
    """
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == uid).options(*with_everything())
    ).one_or_none()
    if study is None:
        raise NotThere("There is no such study.")
    view = view_of(study)
    # reasons_of empties the session, so it comes last.
    history = whole_history(session, study)
    images = _images(study, view.images, history)
    analyses = tuple(_analysis(analysis, history) for analysis in reversed(study.analyses))
    shadows = _shadows(study, history)
    events = tuple(events_of_study(session, uid))
    return Dossier(
        study=view,
        received_at=study.receiving_since,
        completed_at=study.completed_at,
        images=images,
        analyses=analyses,
        shadows=shadows,
        events=events,
        reasons=tuple(reasons_of(session, [study.id])[study.id]),
    )


def image_of(session: Session, uid: str, instance_id: int) -> Instance:
    """One archived object of a study.

    Raises:
        NotThere: If the study has no such object.
    """
    image = session.scalars(
        select(Instance).join(Study).where(Study.study_instance_uid == uid, Instance.id == instance_id)
    ).one_or_none()
    if image is None:
        raise NotThere("There is no such image.")
    return image


def result_of(session: Session, uid: str, result_id: int) -> Result:
    """One result of a study.

    Raises:
        NotThere: If the study has no such result.
    """
    result = session.scalars(
        select(Result)
        .join(Analysis)
        .join(Study)
        .where(Study.study_instance_uid == uid, Result.id == result_id)
    ).one_or_none()
    if result is None:
        raise NotThere("There is no such result.")
    return result


def _shadows(study: Study, history: History) -> tuple[ShadowReading, ...]:
    newest: dict[str, ShadowReading] = {}
    for row in reversed(study.analyses):
        model = f"{row.model_id} {row.model_version}"
        if row.purpose != Purpose.SHADOW or row.state != AnalysisState.DONE or model in newest:
            continue
        given = {image.instance_id for image in row.images}
        images = tuple(one for one in _images(study, images_of(study, row), history) if one.id in given)
        newest[model] = ShadowReading(row.id, model, row.demonstration, row.finished_at, images)
    return tuple(newest.values())


def _images(study: Study, views: Sequence[ImageView], history: History) -> tuple[StoredImage, ...]:
    return tuple(
        StoredImage(
            row.id,
            row.digest,
            UID(row.sop_class_uid).name,
            row.size_bytes,
            image,
            tuple(_delivery(delivery, history) for delivery in row.deliveries),
        )
        for row, image in zip(study.instances, views, strict=True)
    )


def _analysis(row: Analysis, history: History) -> AnalysisHistory:
    return AnalysisHistory(
        id=row.id,
        model=f"{row.model_id} {row.model_version}",
        demonstration=row.demonstration,
        shadow=row.purpose == Purpose.SHADOW,
        state=row.state,
        priority=Priority(row.priority),
        attempt=row.attempt,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        results=tuple(
            _result(result, history) for result in sorted(row.results, key=lambda result: result.id)
        ),
        calls=tuple(_call(call, history) for call in row.calls),
    )


def _result(row: Result, history: History) -> ResultHistory:
    return ResultHistory(
        id=row.id,
        sop_class=UID(row.sop_class_uid).name.removesuffix(" Storage"),
        sop_instance_uid=row.sop_instance_uid,
        path=row.path,
        created_at=row.created_at,
        purged_at=row.purged_at,
        deliveries=tuple(
            _delivery(delivery, history) for delivery in sorted(row.deliveries, key=lambda one: one.id)
        ),
    )


def _delivery(row: Delivery, history: History) -> DeliveryHistory:
    return DeliveryHistory(
        id=row.id,
        destination=row.destination,
        state=row.state,
        priority=Priority(row.priority),
        attempt=row.attempt,
        error=row.error,
        not_before=row.not_before,
        sent_at=row.sent_at,
        attempts=history.of_delivery(row.id),
        commitment_due_at=row.commitment_due_at if row.state == DeliveryState.SENT else None,
        commitment_asks=row.commitment_asks,
        committed_at=row.committed_at,
    )


def _call(row: WebhookCall, history: History) -> CallHistory:
    return CallHistory(
        id=row.id,
        webhook=row.webhook,
        state=row.state,
        attempt=row.attempt,
        error=row.error,
        not_before=row.not_before,
        created_at=row.created_at,
        sent_at=row.sent_at,
        attempts=history.of_call(row.id),
    )


def _received(image: ImageView) -> str:
    sender = f" from {image.calling_ae_title}" if image.calling_ae_title else ""
    return f"image received{sender}"


def _of_forwards(image: StoredImage) -> list[Moment]:
    return [
        moment
        for delivery in image.deliveries
        for moment in _of_delivery(delivery, f"image passed on to {delivery.destination}", "image")
    ]


def _of_delivery(delivery: DeliveryHistory | CallHistory, arrived: str, what: str) -> list[Moment]:
    """When it arrived, in these words, and the attempts that came to nothing."""
    moments = [
        Moment(one.last_at, f"{what}: {one.outcome}{_how_often(one)}, {one.said}")
        for one in failures(delivery.attempts)
    ]
    if delivery.sent_at:
        moments.append(Moment(delivery.sent_at, arrived))
    if isinstance(delivery, DeliveryHistory) and delivery.committed_at:
        moments.append(Moment(delivery.committed_at, f"{what} committed to by {delivery.destination}"))
    return moments


def _how_often(attempt: Attempt) -> str:
    return f", {attempt.count} times since {attempt.first_at:%Y-%m-%d %H:%M} UTC" if attempt.count > 1 else ""


def _of_analysis(analysis: AnalysisHistory) -> list[Moment]:
    name = f"analysis {analysis.id}"
    moments = [
        Moment(
            analysis.created_at,
            f"{name} asked for, {analysis.model}{' as a shadow' if analysis.shadow else ''}",
        )
    ]
    if analysis.started_at:
        moments.append(Moment(analysis.started_at, f"{name} begun, attempt {analysis.attempt}"))
    if analysis.finished_at:
        moments.append(Moment(analysis.finished_at, f"{name} {analysis.state}"))
    for result in analysis.results:
        for delivery in result.deliveries:
            moments += _of_delivery(
                delivery, f"{result.sop_class} sent to {delivery.destination}", result.sop_class
            )
    for call in analysis.calls:
        moments += _of_delivery(call, f"webhook {call.webhook} told", f"webhook {call.webhook}")
    return moments
