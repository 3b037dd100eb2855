"""What a worker is given with an analysis: the images, those beside them, and what the results replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.eligibility import RADIOGRAPHS, SECONDARY_CAPTURE
from service.peers import ResultKind
from service.records.states import DeliveryState, InstanceState, Purpose
from service.records.tables import Analysis, AnalysisImage, Delivery, Instance, Result, Study
from service.rules.facts import Facts

PURGED: Final = "removed from the node before this reading, to make room"
"""What a report says of an image that was meant to be read and could not be any more."""

_ORIGINALS: Final = tuple(uid for uid in RADIOGRAPHS if uid != SECONDARY_CAPTURE)
"""A Secondary Capture that is not analysed is mostly a picture of a result, ours among them."""


@dataclass(frozen=True, slots=True)
class ClaimedImage:
    """An image of a claimed analysis.

    Attributes:
        path: The image's file, relative to the archive's root.
        header_path: The file whose header counts: a later correction of the same image, else the same file.
        facts: What rules may ask of it.
    """

    instance_id: int
    sop_instance_uid: str
    path: str
    header_path: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class OtherImage:
    """A radiograph of the study that is not meant to be read, and why."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A result of ours that a destination already holds."""

    sop_class_uid: str
    sop_instance_uid: str
    path: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One analysis that this worker may work on until its lease ends.

    Attributes:
        model: Who reads it.
        purpose: Why that one.
        patient_header_path: The file that came last among the images and their corrections: its patient and
            study are true.
    """

    analysis_id: int
    attempt: int
    failures: int
    priority: int
    study_instance_uid: str
    input_digest: str
    settings_digest: str
    model: ModelIdentity
    purpose: Purpose
    images: tuple[ClaimedImage, ...]
    other_images: tuple[OtherImage, ...]
    patient_header_path: str
    predecessors: tuple[Delivered, ...]


def claim_of(session: Session, row: Analysis) -> Claim:
    """An analysis as its worker needs it."""
    images = tuple(_claimed_image(session, image.instance) for image in row.images)
    return Claim(
        analysis_id=row.id,
        attempt=row.attempt,
        failures=row.failures,
        priority=row.priority,
        study_instance_uid=row.study.study_instance_uid,
        input_digest=row.input_digest,
        settings_digest=row.settings_digest,
        model=ModelIdentity(row.model_id, row.model_version, row.demonstration),
        purpose=Purpose(row.purpose),
        images=images,
        other_images=_other_images(session, row),
        patient_header_path=_newest(session, row.study_id, [image.sop_instance_uid for image in images]),
        predecessors=_delivered_before(session, row),
    )


def _claimed_image(session: Session, instance: Instance) -> ClaimedImage:
    newest = _newest(session, instance.study_id, [instance.sop_instance_uid])
    facts = Facts.read(instance.facts, instance.calling_ae_title)
    return ClaimedImage(instance.id, instance.sop_instance_uid, instance.path, newest, facts)


def _other_images(session: Session, row: Analysis) -> tuple[OtherImage, ...]:
    """Those that had come when the analysis was asked for: so its results are the same at any time."""
    of_study = (
        Instance.study_id == row.study_id,
        Instance.state == InstanceState.STORED,
        Instance.set_aside_at.is_(None),
        Instance.received_at <= row.created_at,
    )
    read = select(Instance.sop_instance_uid).join(AnalysisImage).where(AnalysisImage.analysis_id == row.id)
    others = session.execute(
        select(Instance.sop_instance_uid, func.coalesce(func.nullif(Instance.reason, ""), PURGED))
        .where(
            *of_study,
            Instance.sop_class_uid.in_(_ORIGINALS),
            Instance.sop_instance_uid.not_in(read),
        )
        .order_by(Instance.id)
    )
    # Of one that came again with another header the last reason counts.
    named = {uid: OtherImage(uid, reason) for uid, reason in others}
    return tuple(named.values())


def _newest(session: Session, study_id: int, sop_instance_uids: Sequence[str]) -> str:
    """Path of the stored file that came last under one of these UIDs and is not purged: an image, or its
    corrected header."""
    return session.scalars(
        select(Instance.path)
        .where(
            Instance.study_id == study_id,
            Instance.sop_instance_uid.in_(sop_instance_uids),
            Instance.state == InstanceState.STORED,
            Instance.set_aside_at.is_(None),
        )
        .order_by(Instance.purged_at.is_not(None), Instance.id.desc())
        .limit(1)
    ).one()


def _delivered_before(session: Session, row: Analysis) -> tuple[Delivered, ...]:
    """The newest report of each SOP class by the same model for the same study that some destination holds
    (decision 3); one of the analysis itself is of an earlier attempt, if it was made before this one began.
    One whose bytes are purged cannot be named: what it says is not in the new one.
    """
    in_shadow = Analysis.purpose == Purpose.SHADOW
    before = or_(Analysis.id != row.id, Result.created_at < row.started_at)
    delivered = session.scalars(
        select(Result)
        .join(Analysis)
        .join(Study)
        .join(Delivery)
        .where(
            Study.id == row.study_id,
            before,
            Analysis.model_id == row.model_id,
            in_shadow == (row.purpose == Purpose.SHADOW),
            Result.kind == ResultKind.STRUCTURED_REPORT,
            Result.purged_at.is_(None),
            Delivery.state.in_((DeliveryState.SENT, DeliveryState.COMMITTED)),
        )
        .order_by(Result.id)
    )
    newest = {result.sop_class_uid: result for result in delivered}
    return tuple(Delivered(one.sop_class_uid, one.sop_instance_uid, one.path) for one in newest.values())
