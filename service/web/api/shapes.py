"""What studies look like in the API's answers, made from what the pages show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.records.dossier import Dossier, StoredImage
from service.records.worklist import Row

PriorityName = Annotated[Literal["stat", "routine", "backlog"], BeforeValidator(str)]
"""Of a ``Priority``, which is a number."""


class Shape(BaseModel):
    """Made from an object with the same attributes; whatever else that has is left out."""

    model_config = ConfigDict(from_attributes=True)


class StudyLine(Shape):
    """A study in the list."""

    study_instance_uid: str = Field(description="Study Instance UID.")
    accession_number: str = Field(description="Accession number; empty where the images have none.")
    study_date: str = Field(description="Study Date, `YYYYMMDD`, as it came.")
    received_at: datetime = Field(description="When its last receiving period began.")
    state: str = Field(description="Where it stands, in the words of the filter `state`.")
    model: str = Field(description="Id and version of the model of its newest analysis; empty before that.")
    demonstration: bool = Field(description="Whether that model means nothing about patients.")
    image_count: int = Field(description="How many objects were received.")
    eligible_image_count: int = Field(description="How many of them are to be read.")
    labels: list[str] = Field(description="What its results tell, the surest first.")
    remark: str = Field(description="What went wrong, where something did, and that images are gone.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """A row of the list."""
        return cls(**_line(row))


def _line(row: Row) -> dict[str, Any]:
    study = row.study
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "study_date": study.study_date,
        "received_at": row.received_at,
        "state": study.outcome,
        "model": study.model,
        "demonstration": study.demonstration,
        "image_count": len(study.images),
        "eligible_image_count": sum(not image.reason for image in study.images),
        "labels": list(study.reported_labels),
        "remark": study.remark,
    }


class StudyPage(BaseModel):
    """A page of the list of studies, newest first."""

    studies: list[StudyLine] = Field(description="At most 50; fewer, or none, is no sign of the end.")
    next: str | None = Field(description="Give this as `after` for the next page; null at the end.")
    searched_to: datetime | None = Field(
        description="Where the page ended for having gone through so many studies: how far back that was."
    )


class Box(BaseModel):
    """A box in pixels of the original image matrix."""

    left: float = Field(description="Left edge.")
    top: float = Field(description="Upper edge.")
    right: float = Field(description="Right edge.")
    bottom: float = Field(description="Lower edge.")


def _box(corners: Any) -> Any:
    return dict(zip(Box.model_fields, corners, strict=True)) if isinstance(corners, tuple) else corners


class Finding(Shape):
    """What the newest analysis found in an image."""

    label: str = Field(description="A label of the vocabulary.")
    score: float = Field(description="0 to 1.")
    box: Annotated[Box | None, BeforeValidator(_box)] = Field(
        description="Where; null of what concerns the whole image."
    )
    box_score: float | None = Field(description="How sure the model is of the box, given the label.")
    reported: bool = Field(description="Whether results tell it; else it is below the model's threshold.")


class Attempt(Shape):
    """An attempt at a delivery or a webhook call, or several in a row that ended alike."""

    attempt: int = Field(description="The number of the last of them.")
    count: int = Field(description="How many in a row.")
    outcome: str = Field(
        description="`sent`, `try-again`, `no-association`, `not-shown` (it only looked, and the destination "
        "does not show the study yet), `refused` or `replaced`."
    )
    said: str = Field(description="The status that came, or why none did.")
    seconds: float | None = Field(description="How long the last took; null where it was not measured.")
    worker: str = Field(description="Who made the last, `HOST/PID`.")
    first_at: datetime = Field(description="When the first ended.")
    last_at: datetime = Field(description="When the last ended.")


class Delivery(Shape):
    """A result, or an image that is passed on, at one destination."""

    destination: str = Field(description="`AET@HOST:PORT`.")
    state: str = Field(description="`due`, `sent`, `committed`, `refused`, `withdrawn` or `replaced`.")
    priority: PriorityName = Field(description="How soon it is sent.")
    attempt: int = Field(description="Attempts so far.")
    error: str = Field(description="What the last attempt ended with; empty where it went well.")
    not_before: datetime = Field(description="When a due one is tried next.")
    sent_at: datetime | None = Field(description="When the destination took it.")
    commitment_due_at: datetime | None = Field(
        description="When the destination is asked (again) to commit to it; none where it need not be."
    )
    committed_at: datetime | None = Field(description="When the destination said that it commits to it.")
    attempts: list[Attempt] = Field(description="How each ended, the first ones first; at most 50.")


class WebhookCall(Shape):
    """An analysis as it is told to one webhook."""

    webhook: str = Field(description="Its name in the settings.")
    state: str = Field(description="`due`, `sent`, `refused` or `withdrawn`.")
    attempt: int = Field(description="Attempts so far.")
    error: str = Field(description="What the last attempt ended with; empty where it went well.")
    not_before: datetime = Field(description="When a due one is tried next.")
    sent_at: datetime | None = Field(description="When the receiver took it.")
    attempts: list[Attempt] = Field(description="How each ended, the first ones first; at most 50.")


class Image(Shape):
    """An object that was received, with what the newest analysis says of it."""

    id: int = Field(description="Names it in addresses of this API.")
    sop_instance_uid: str = Field(description="SOP Instance UID.")
    sop_class: str = Field(description="SOP Class, by its name in DICOM.")
    size_bytes: int = Field(description="Of its file.")
    received_at: datetime = Field(description="When it came.")
    calling_ae_title: str = Field(description="Who sent it; empty where it was imported.")
    state: str = Field(description="`stored`, or `conflict`: its UID had come with other pixels.")
    reason: str = Field(description="Why it is not to be read; empty where it is.")
    not_read: str = Field(description="Why it could not be read; empty where it could.")
    purged_at: datetime | None = Field(description="When its file was given up.")
    findings: list[Finding] = Field(description="What was found in it.")
    deliveries: list[Delivery] = Field(description="Where it is passed on.")

    @classmethod
    def of(cls, image: StoredImage) -> Self:
        """An image as the records have it: what the archive knows, and what the analysis says."""
        own = {name: getattr(image, name) for name in ("id", "sop_class", "size_bytes", "deliveries")}
        rest = {name: getattr(image.view, name) for name in cls.model_fields if name not in own}
        return cls.model_validate({**own, **rest}, from_attributes=True)


class Result(Shape):
    """A DICOM object that was made."""

    id: int = Field(description="Names it in addresses of this API.")
    sop_instance_uid: str = Field(description="SOP Instance UID.")
    sop_class: str = Field(description="SOP Class, by its name in DICOM.")
    created_at: datetime = Field(description="When it was made.")
    purged_at: datetime | None = Field(description="When its bytes were given up.")
    deliveries: list[Delivery] = Field(description="Where it went.")


class Analysis(Shape):
    """One reading of the study by one model."""

    id: int = Field(description="Its number.")
    model: str = Field(description="The model's id and version.")
    demonstration: bool = Field(description="Whether the model means nothing about patients.")
    shadow: bool = Field(description="Whether a shadow made it, for comparison: no study is judged by it.")
    state: str = Field(
        description="`queued`, `running`, `done`, `not-applicable`, `failed`, `superseded` or `cancelled`."
    )
    priority: PriorityName = Field(description="How soon it is read.")
    attempt: int = Field(description="Attempts so far.")
    error: str = Field(description="Why it failed, or who cancelled it.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When its last attempt began.")
    finished_at: datetime | None = Field(description="When it ended.")
    results: list[Result] = Field(description="What was made of it.")
    calls: list[WebhookCall] = Field(description="Which webhooks are told of it.")


class Reason(Shape):
    """Why a study is not settled."""

    what: str = Field(description="In plain words.")
    since: datetime = Field(description="Since when.")
    remedy: str = Field(description="What an admin can do.")


class Moment(Shape):
    """Something that happened."""

    at: datetime = Field(description="When.")
    what: str = Field(description="What.")


class AuditEvent(Shape):
    """What somebody did."""

    id: int = Field(description="Larger is newer.")
    at: datetime = Field(description="When.")
    who: str = Field(description="A user, `token NAME`, or somebody at the command line.")
    action: str = Field(description="What.")
    asked: dict[str, Any] = Field(description="Of which studies, and how.")
    outcome: dict[str, int] = Field(description="How many met which end.")


class Patient(Shape):
    """Who is in an image, as its header says."""

    name: str = Field(description="Patient's Name.")
    id: str = Field(description="Patient ID.")


class StudyDetail(StudyLine):
    """One study with all that happened to it."""

    completed_at: datetime | None = Field(description="When it was complete.")
    reasons: list[Reason] = Field(description="Why it is not settled; empty where it is.")
    images: list[Image] = Field(description="Every object, in the order in which they came.")
    analyses: list[Analysis] = Field(description="Newest first.")
    timeline: list[Moment] = Field(description="All that happened, in order.")
    events: list[AuditEvent] = Field(description="What people and clients did with it, newest first.")
    patients: list[Patient] | None = Field(
        description="Null unless `patient` was asked for; more than one where headers disagree."
    )

    @classmethod
    def whole(cls, dossier: Dossier, patients: tuple[object, ...] | None) -> Self:
        """Everything about one study."""
        values = {
            **_line(Row(dossier.received_at, dossier.study)),
            "completed_at": dossier.completed_at,
            "reasons": dossier.reasons,
            "images": [Image.of(image) for image in dossier.images],
            "analyses": dossier.analyses,
            "timeline": dossier.timeline(),
            "events": dossier.events,
            "patients": patients,
        }
        return cls.model_validate(values, from_attributes=True)
