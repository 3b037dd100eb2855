"""Studies written straight into the records, in any state, at stated times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy.orm import Session

from service.records.states import AnalysisState, CallState, DeliveryState, InstanceState, StudyState
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

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
_numbers = count(1)


def ago(**times: float) -> datetime:
    """So long before ``NOW``."""
    return NOW - timedelta(**times)


@dataclass(frozen=True)
class DeliveryRow:
    """A result, or an image, at a destination."""

    state: DeliveryState
    destination: str = "PACS@host:104"
    error: str = ""
    made_at: datetime = NOW
    awaits_commitment: bool = False


@dataclass(frozen=True)
class ImageRow:
    """An instance: eligible where it has no reason."""

    reason: str = ""
    state: InstanceState = InstanceState.STORED
    received_at: datetime = NOW
    not_read: str = ""
    uid: str = ""
    forwards: tuple[DeliveryRow, ...] = ()
    """Where it is passed on."""


@dataclass(frozen=True)
class FindingRow:
    """A finding; its box is left, top, right, bottom."""

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    box_score: float | None = None
    reported: bool = True


@dataclass(frozen=True)
class AnalysisRow:
    """An analysis of a study's eligible images, or of the first of them."""

    state: AnalysisState
    deliveries: tuple[DeliveryRow, ...] = ()
    images: int | None = None
    created_at: datetime = NOW
    finished_at: datetime | None = None
    error: str = ""
    attempt: int = 0
    model_id: str = "model"
    model_version: str = "1"
    calls: tuple[CallState, ...] = ()
    """Of as many webhooks, asked for when the analysis was."""
    findings: tuple[tuple[FindingRow, ...], ...] = ()
    """Of each of the images that it has, the first ones at least."""


@dataclass(frozen=True)
class StudyRow:
    """A study; its analyses oldest first."""

    analyses: tuple[AnalysisRow, ...] = ()
    images: tuple[ImageRow, ...] = (ImageRow(),)
    state: StudyState = StudyState.COMPLETE
    received_at: datetime = NOW
    accession_number: str = ""
    study_date: str = ""


def write(session: Session, row: StudyRow, uid: str = "") -> str:
    """Writes a study with all that hangs on it; returns its UID."""
    study = Study(
        study_instance_uid=uid or f"1.2.3.{next(_numbers)}",
        accession_number=row.accession_number,
        study_date=row.study_date,
        state=row.state,
        receiving_since=row.received_at,
        last_eligible_at=row.received_at,
        completed_at=row.received_at if row.state == StudyState.COMPLETE else None,
        instances=[_instance(image) for image in row.images],
    )
    study.analyses = [_analysis(study, row, analysis) for analysis in row.analyses]
    session.add(study)
    session.flush()
    return study.study_instance_uid


def _instance(image: ImageRow) -> Instance:
    number = next(_numbers)
    return Instance(
        sop_instance_uid=image.uid or f"1.2.4.{number}",
        sop_class_uid="1.2",
        series_instance_uid="1.2",
        transfer_syntax_uid="1.2",
        digest="",
        path=f"images/00/{number}.dcm",
        size_bytes=1,
        state=image.state,
        eligible=not image.reason,
        reason=image.reason,
        received_at=image.received_at,
        deliveries=[_delivery(row) for row in image.forwards],
    )


def _analysis(study: Study, of: StudyRow, row: AnalysisRow) -> Analysis:
    eligible = [
        (image, instance)
        for image, instance in zip(of.images, study.instances, strict=True)
        if not image.reason
    ]
    return Analysis(
        input_digest=str(next(_numbers)),
        model_id=row.model_id,
        model_version=row.model_version,
        settings_digest="",
        demonstration=True,
        state=row.state,
        attempt=row.attempt,
        not_before=row.created_at,
        error=row.error,
        created_at=row.created_at,
        started_at=row.created_at if row.attempt else None,
        finished_at=row.finished_at,
        images=[
            AnalysisImage(
                instance=instance,
                position=position,
                not_read=image.not_read,
                findings=_findings(row.findings[position : position + 1]),
            )
            for position, (image, instance) in enumerate(eligible[: row.images])
        ],
        results=[_result(delivery) for delivery in row.deliveries],
        calls=[
            WebhookCall(
                webhook=f"hook-{number}", state=state, not_before=row.created_at, created_at=row.created_at
            )
            for number, state in enumerate(row.calls)
        ],
    )


def _findings(of_image: tuple[tuple[FindingRow, ...], ...]) -> list[Finding]:
    return [
        Finding(
            position=position,
            label=row.label,
            score=row.score,
            box_score=row.box_score,
            reported=row.reported,
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), row.box or (), strict=False)),
        )
        for rows in of_image
        for position, row in enumerate(rows)
    ]


def _result(row: DeliveryRow) -> Result:
    number = next(_numbers)
    return Result(
        kind="sr",
        sop_class_uid="1.2",
        sop_instance_uid=f"2.25.{number}",
        template_version="1",
        path=f"results/00/{number}.dcm",
        digest="",
        created_at=row.made_at,
        deliveries=[_delivery(row)],
    )


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        destination=row.destination,
        state=row.state,
        not_before=row.made_at,
        error=row.error,
        sent_at=row.made_at if row.state == DeliveryState.SENT else None,
        commitment_due_at=row.made_at if row.awaits_commitment else None,
    )
