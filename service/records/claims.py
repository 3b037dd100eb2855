"""What a worker is given with an analysis: the images, those beside them, and what the results replace."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, exists, or_, select
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

    @property
    def lost(self) -> str:
        """What is said where it does not hold any more."""
        return f"analysis {self.analysis_id}: attempt {self.attempt} is not the current one"


@dataclass(frozen=True, slots=True)
class _ToRead:
    """An image that an analysis is to read."""

    analysis_id: int
    id: int
    study_id: int
    study_instance_uid: str
    sop_instance_uid: str
    path: str
    facts: str
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored object of a study that is used, as far as claims ask for it."""

    id: int
    study_id: int
    sop_instance_uid: str
    sop_class_uid: str
    path: str
    reason: str
    received_at: datetime
    purged: bool


def claim_of(session: Session, row: Analysis) -> Claim:
    """An analysis as its worker needs it."""
    return claims_of(session, [row])[0]


def claims_of(session: Session, rows: Sequence[Analysis]) -> list[Claim]:
    """Analyses as their worker needs them, with as many questions for all of them as for one."""
    if not rows:
        return []
    read = _read(session, rows)
    uids = {image.study_id: image.study_instance_uid for image in read}
    stored = _stored(session, rows, [image.sop_instance_uid for image in read])
    delivered = _delivered(session, rows)
    claims = []
    for row in rows:
        images = [image for image in read if image.analysis_id == row.id]
        of_study = [one for one in stored if one.study_id == row.study_id]
        claims.append(
            Claim(
                analysis_id=row.id,
                attempt=row.attempt,
                failures=row.failures,
                priority=row.priority,
                study_instance_uid=uids[row.study_id],
                input_digest=row.input_digest,
                settings_digest=row.settings_digest,
                model=ModelIdentity(row.model_id, row.model_version, row.demonstration),
                purpose=Purpose(row.purpose),
                images=tuple(_claimed_image(image, of_study) for image in images),
                other_images=_other_images(row, images, of_study),
                patient_header_path=_newest(of_study, {one.sop_instance_uid for one in images}),
                predecessors=_predecessors(row, delivered),
            )
        )
    return claims


# Statements are written once and not for each claim: putting one together costs as much as running it.
_IMAGES: Final = (
    select(
        *(AnalysisImage.analysis_id, Instance.id, Instance.study_id, Study.study_instance_uid),
        *(Instance.sop_instance_uid, Instance.path, Instance.facts, Instance.calling_ae_title),
    )
    .join(Instance, Instance.id == AnalysisImage.instance_id)
    .join(Study, Study.id == Instance.study_id)
    .where(AnalysisImage.analysis_id.in_(bindparam("analyses", expanding=True)))
    .order_by(AnalysisImage.analysis_id, AnalysisImage.position)
)


def _read(session: Session, rows: Sequence[Analysis]) -> list[_ToRead]:
    """The images that each is to read, in their order."""
    return [_ToRead(*row) for row in session.execute(_IMAGES, {"analyses": [row.id for row in rows]})]


_USED: Final = (
    select(
        *(Instance.id, Instance.study_id, Instance.sop_instance_uid, Instance.sop_class_uid),
        *(Instance.path, Instance.reason, Instance.received_at, Instance.purged_at.is_not(None)),
    )
    .where(
        Instance.study_id.in_(bindparam("studies", expanding=True)),
        Instance.state == InstanceState.STORED,
        Instance.set_aside_at.is_(None),
        or_(
            Instance.sop_class_uid.in_(_ORIGINALS),
            Instance.sop_instance_uid.in_(bindparam("read", expanding=True)),
        ),
    )
    .order_by(Instance.id)
)


def _stored(session: Session, rows: Sequence[Analysis], read: Sequence[str]) -> list[_Stored]:
    """What is stored under these UIDs, and all radiographs beside them, in the order in which it came."""
    values = {"studies": [row.study_id for row in rows], "read": list(read)}
    return [_Stored(*row) for row in session.execute(_USED, values)]


def _claimed_image(image: _ToRead, of_study: Sequence[_Stored]) -> ClaimedImage:
    newest = _newest(of_study, {image.sop_instance_uid})
    facts = Facts.read(image.facts, image.calling_ae_title)
    return ClaimedImage(image.id, image.sop_instance_uid, image.path, newest, facts)


def _other_images(
    row: Analysis, read: Sequence[_ToRead], of_study: Sequence[_Stored]
) -> tuple[OtherImage, ...]:
    """Those that had come when the analysis was asked for: so its results are the same at any time."""
    uids = {image.sop_instance_uid for image in read}
    others = (
        one
        for one in of_study
        if one.received_at <= row.created_at
        and one.sop_class_uid in _ORIGINALS
        and one.sop_instance_uid not in uids
    )
    # Of one that came again with another header the last reason counts.
    named = {one.sop_instance_uid: OtherImage(one.sop_instance_uid, one.reason or PURGED) for one in others}
    return tuple(named.values())


def _newest(of_study: Sequence[_Stored], sop_instance_uids: Set[str]) -> str:
    """Path of the stored file that came last under one of these UIDs and is not purged: an image, or its
    corrected header."""
    named = (one for one in of_study if one.sop_instance_uid in sop_instance_uids)
    return max(named, key=lambda one: (not one.purged, one.id)).path


@dataclass(frozen=True, slots=True)
class _DeliveredReport:
    """A report that some destination holds, and of which analysis it is."""

    analysis_id: int
    study_id: int
    model_id: str
    is_shadows: bool
    created_at: datetime
    report: Delivered


_DELIVERED: Final = (
    select(
        *(Result.analysis_id, Analysis.study_id, Analysis.model_id, Analysis.purpose == Purpose.SHADOW),
        *(Result.created_at, Result.sop_class_uid, Result.sop_instance_uid, Result.path),
    )
    .join(Analysis)
    .where(
        Analysis.study_id.in_(bindparam("studies", expanding=True)),
        Result.kind == ResultKind.STRUCTURED_REPORT,
        Result.purged_at.is_(None),
        exists().where(
            Delivery.result_id == Result.id,
            Delivery.state.in_((DeliveryState.SENT, DeliveryState.COMMITTED)),
        ),
    )
    .order_by(Result.id)
)


def _delivered(session: Session, rows: Sequence[Analysis]) -> list[_DeliveredReport]:
    """The reports of these studies that some destination holds, in the order in which they were made.

    One whose bytes are purged cannot be named: what it says is not in the new one.
    """
    found = session.execute(_DELIVERED, {"studies": [row.study_id for row in rows]})
    return [_DeliveredReport(*row[:5], Delivered(*row[5:])) for row in found]


def _predecessors(row: Analysis, delivered: Sequence[_DeliveredReport]) -> tuple[Delivered, ...]:
    """The newest report of each SOP class by the same model for the same study that some destination holds
    (decision 3); one of the analysis itself is of an earlier attempt, if it was made before this one began.
    """
    newest = {
        one.report.sop_class_uid: one.report
        for one in delivered
        if (one.study_id, one.model_id) == (row.study_id, row.model_id)
        and one.is_shadows == (row.purpose == Purpose.SHADOW)
        and (one.analysis_id != row.id or (row.started_at is not None and one.created_at < row.started_at))
    }
    return tuple(newest.values())
