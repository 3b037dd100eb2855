"""The tables, as typed SQLAlchemy models. ``migrations/`` holds the same as Alembic steps; a test compares.

States are strings with a CHECK, so that an admin can read them and a migration can add one on both
databases. Time stamps are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from service.records.states import (
    AnalysisState,
    AttemptOutcome,
    CallState,
    DeliveryState,
    InstanceState,
    JobState,
    ModelState,
    PeerKind,
    Priority,
    Purpose,
    RetrievalState,
    Role,
    StudyState,
)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time stamp, stored in UTC on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Converts to UTC; SQLite stores it without its zone.

        Raises:
            ValueError: If the time stamp is naive.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time stamps carry their zone: {value}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Gives the zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_known")


_IN_CONFLICT = text("state = 'conflict'")
_HAS_FAILED = text("state = 'failed'")
_ALONE = text("state IN ('active', 'shadow')")
_AWAITED = text("commitment_due_at IS NOT NULL")


class Base(DeclarativeBase):
    """Base of the tables; constraint names follow one pattern so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UTCDateTime(), str: Text(), float: Double()}


class Study(Base):
    """One study, as far as it has arrived."""

    __tablename__ = "study"
    __table_args__ = (
        _one_of("state", StudyState),
        Index(None, "state", "last_eligible_at"),
        # Lists are newest first by this key.
        Index("ix_study_received", "receiving_since", "id"),
        # Beginnings of UIDs: SQLite finds them by the constraint's own index.
        Index(
            "ix_study_uid_begins",
            "study_instance_uid",
            postgresql_ops={"study_instance_uid": "varchar_pattern_ops"},
        ).ddl_if(dialect="postgresql"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    accession_number: Mapped[str] = mapped_column(default="", index=True)
    study_date: Mapped[str] = mapped_column(String(8), default="", index=True)
    state: Mapped[str] = mapped_column(String(16), default=StudyState.RECEIVING)
    receiving_since: Mapped[datetime]
    """Start of the present receiving period; the hard cap counts from here."""
    last_eligible_at: Mapped[datetime]
    """When the last image that matters arrived (or, before the first of those, the last object)."""
    priority: Mapped[int] = mapped_column(
        default=Priority.ROUTINE, server_default=text(str(Priority.ROUTINE.value))
    )
    """Of what is analysed next: the most urgent of what came in the present receiving period."""
    completed_at: Mapped[datetime | None]

    instances: Mapped[list[Instance]] = relationship(back_populates="study", order_by="Instance.id")
    analyses: Mapped[list[Analysis]] = relationship(back_populates="study", order_by="Analysis.id")


class Instance(Base):
    """One archived object: a SOP Instance UID together with the bytes it came with."""

    __tablename__ = "instance"
    __table_args__ = (
        _one_of("state", InstanceState),
        UniqueConstraint("sop_instance_uid", "digest"),
        Index("ix_instance_conflict", "study_id", sqlite_where=_IN_CONFLICT, postgresql_where=_IN_CONFLICT),
        # Who has sent when, for modalities that fall silent.
        Index("ix_instance_heard", "calling_ae_title", "received_at", "study_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the dataset as received, without the file meta information."""
    path: Mapped[str]
    """Path relative to the archive's root; empty once a purged file is certainly gone."""
    size_bytes: Mapped[int] = mapped_column(BigInteger())
    state: Mapped[str] = mapped_column(String(16), default=InstanceState.STORED)
    eligible: Mapped[bool]
    reason: Mapped[str] = mapped_column(default="")
    """Why the object is not analysed; empty where it is."""
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    facts: Mapped[str] = mapped_column(default="", server_default="")
    """What rules may ask of the image, as JSON (``service.rules.facts``); empty where it came before them."""
    received_at: Mapped[datetime]
    purged_at: Mapped[datetime | None]
    """When the file was given up: it is gone, or will be at once. None again where it came again."""
    set_aside_at: Mapped[datetime | None]
    """When an admin ended a conflict in favour of another object under its UID: it is kept, and not used."""
    committed_until: Mapped[datetime | None]
    """Until when the node has promised a modality to keep the file."""

    study: Mapped[Study] = relationship(back_populates="instances")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="instance", order_by="Delivery.id")


class Analysis(Base):
    """One reading of a study's eligible images by one model under one set of settings."""

    __tablename__ = "analysis"
    __table_args__ = (
        _one_of("state", AnalysisState),
        UniqueConstraint(
            "study_id",
            "input_digest",
            "model_id",
            "model_version",
            "settings_digest",
            name="uq_analysis_identity",
        ),
        _one_of("purpose", Purpose),
        Index(None, "state", "not_before"),
        Index("ix_analysis_due", "state", "priority", "model_id", "model_version", "not_before", "id"),
        # The newest of a study is looked for everywhere.
        Index("ix_analysis_newest", "study_id", "counts", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    input_digest: Mapped[str] = mapped_column(String(64))
    model_id: Mapped[str]
    model_version: Mapped[str]
    settings_digest: Mapped[str] = mapped_column(String(64))
    demonstration: Mapped[bool]
    """Whether the model is only a demonstration; whatever shows the findings must say so."""
    purpose: Mapped[str] = mapped_column(
        String(16), default=Purpose.REGULAR, server_default=text(f"'{Purpose.REGULAR.value}'")
    )
    counts: Mapped[bool] = mapped_column(default=True, server_default=true())
    """Whether it can be what the study is judged by: the last of those that can is. A shadow's never can, nor
    can one that came before another was taken up again."""
    state: Mapped[str] = mapped_column(String(16), default=AnalysisState.QUEUED)
    priority: Mapped[int] = mapped_column(
        default=Priority.ROUTINE, server_default=text(str(Priority.ROUTINE.value))
    )
    attempt: Mapped[int] = mapped_column(default=0)
    """Attempts begun. A worker writes its results only while this is still its own number."""
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts that killed their worker or ended in an unknown fault; enough of them quarantine the analysis.
    Waiting for a disk or a database that is away is none."""
    not_before: Mapped[datetime]
    """When a queued analysis is due, or a running one's lease ends."""
    error: Mapped[str] = mapped_column(default="")
    rule: Mapped[str] = mapped_column(default="", server_default="")
    """The rule for studies that asked for it; empty before there were rules."""
    result_rule: Mapped[str] = mapped_column(default="", server_default="")
    """The rule by which its results were sent; empty until then."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship(back_populates="analyses")
    images: Mapped[list[AnalysisImage]] = relationship(
        back_populates="analysis", order_by="AnalysisImage.position"
    )
    results: Mapped[list[Result]] = relationship(back_populates="analysis")
    calls: Mapped[list[WebhookCall]] = relationship(back_populates="analysis", order_by="WebhookCall.id")


class AnalysisImage(Base):
    """An image that an analysis reads."""

    __tablename__ = "analysis_image"

    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True, index=True)
    position: Mapped[int]
    not_read: Mapped[str] = mapped_column(default="")
    """Why the image could not be read; empty where it was."""

    analysis: Mapped[Analysis] = relationship(back_populates="images")
    instance: Mapped[Instance] = relationship()
    findings: Mapped[list[Finding]] = relationship(order_by="Finding.position")


class Finding(Base):
    """One finding of an image; boxes in pixels of the original matrix, none for a diagnosis."""

    __tablename__ = "finding"
    # Two columns at once: a finding belongs to an image as one analysis read it.
    __table_args__ = (
        ForeignKeyConstraint(
            ["analysis_id", "instance_id"], ["analysis_image.analysis_id", "analysis_image.instance_id"]
        ),
        Index(None, "analysis_id", "instance_id"),
        Index("ix_finding_label", "label", "analysis_id", "score"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int]
    instance_id: Mapped[int]
    position: Mapped[int]
    label: Mapped[str]
    score: Mapped[float]
    box_score: Mapped[float | None]
    """How sure the model is of the box, given the label, 0..1 (``litegpt.findings``)."""
    reported: Mapped[bool] = mapped_column(server_default=true())
    """Whether the score reached the model's threshold; results tell only such findings."""
    x_min: Mapped[float | None]
    y_min: Mapped[float | None]
    x_max: Mapped[float | None]
    y_max: Mapped[float | None]

    @property
    def corners(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom; None for a diagnosis."""
        if self.x_min is None or self.y_min is None or self.x_max is None or self.y_max is None:
            return None
        return self.x_min, self.y_min, self.x_max, self.y_max


class Result(Base):
    """One DICOM object made from an analysis; its bytes are kept and only ever sent again."""

    __tablename__ = "result"

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    template_version: Mapped[str] = mapped_column(String(16))
    path: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    purged_at: Mapped[datetime | None]
    """When its bytes were given up; they cannot be sent again."""

    analysis: Mapped[Analysis] = relationship(back_populates="results")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="result")


class Delivery(Base):
    """One result, or one image that is passed on, on its way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        _one_of("state", DeliveryState),
        CheckConstraint("(result_id IS NULL) <> (instance_id IS NULL)", name="one_object"),
        UniqueConstraint("result_id", "destination"),
        UniqueConstraint("instance_id", "destination"),
        Index(None, "state", "not_before"),
        Index("ix_delivery_sent", "destination", "sent_at"),
        Index("ix_delivery_due", "state", "destination", "priority", "not_before", "id"),
        Index(
            "ix_delivery_uncommitted",
            "destination",
            "commitment_due_at",
            "id",
            "state",
            sqlite_where=_AWAITED,
            postgresql_where=_AWAITED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int | None] = mapped_column(ForeignKey("result.id"))
    instance_id: Mapped[int | None] = mapped_column(ForeignKey("instance.id"))
    """The image, where it is one that is passed on."""
    destination: Mapped[str]
    """``AET@HOST:PORT``."""
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.DUE)
    priority: Mapped[int] = mapped_column(
        default=Priority.ROUTINE, server_default=text(str(Priority.ROUTINE.value))
    )
    attempt: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    """When it is due; while a worker sends it, when that worker's lease ends."""
    looks: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many of its attempts only looked whether the destination shows the study yet: no failures."""
    error: Mapped[str] = mapped_column(default="")
    sent_at: Mapped[datetime | None]
    commitment_id: Mapped[int | None] = mapped_column(ForeignKey("commitment.id"))
    """The last transaction in which the destination was asked to commit to it, or answered."""
    commitment_due_at: Mapped[datetime | None]
    """When the destination is asked (again) to commit; None where that is not awaited, or no more."""
    committed_at: Mapped[datetime | None]
    """When its destination said that it commits to what was sent last."""
    commitment_asks: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often it was asked since the object was sent last."""
    commitment_failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often it said that it does not commit to the object."""

    result: Mapped[Result | None] = relationship(back_populates="deliveries")
    instance: Mapped[Instance | None] = relationship(back_populates="deliveries")
    commitment: Mapped[Commitment | None] = relationship()


class Commitment(Base):
    """One transaction in which a destination was asked to commit to objects that it has (PS3.4 J)."""

    __tablename__ = "commitment"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64), unique=True)
    destination: Mapped[str]
    """``AET@HOST:PORT``."""
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    """When its report came, whatever that said."""
    error: Mapped[str] = mapped_column(default="")
    """Why it could not be asked."""


class SafekeepingRequest(Base):
    """One request of a modality that the node commit to objects, and its answer (PS3.4 J)."""

    __tablename__ = "safekeeping_request"
    __table_args__ = (
        _one_of("state", CallState),
        UniqueConstraint("ae_title", "transaction_uid"),
        Index(None, "state", "not_before"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16))
    """Who asks; where its report goes stands in the settings."""
    transaction_uid: Mapped[str] = mapped_column(String(64))
    objects: Mapped[str]
    """JSON: for each object its SOP Class UID, SOP Instance UID and Failure Reason, 0 where it is kept."""
    judged_at: Mapped[datetime | None]
    """When that was found out, and promised."""
    state: Mapped[str] = mapped_column(String(16), default=CallState.DUE)
    attempt: Mapped[int] = mapped_column(default=0)
    """Attempts begun. A worker writes what came only while this is still its own number."""
    not_before: Mapped[datetime]
    """When it is to be answered; while a worker does, when that worker's lease ends."""
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class WebhookCall(Base):
    """One analysis to be told to one webhook."""

    __tablename__ = "webhook_call"
    __table_args__ = (
        _one_of("state", CallState),
        UniqueConstraint("analysis_id", "webhook"),
        Index(None, "state", "not_before"),
        # What waits for each webhook is counted without the rows.
        Index("ix_webhook_call_of", "state", "webhook", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"))
    webhook: Mapped[str] = mapped_column(String(64))
    """Its name in the settings; address and secret stand there alone."""
    state: Mapped[str] = mapped_column(String(16), default=CallState.DUE)
    attempt: Mapped[int] = mapped_column(default=0)
    """Attempts begun. A worker writes what came only while this is still its own number."""
    not_before: Mapped[datetime]
    """When it is due; while a worker posts it, when that worker's lease ends."""
    error: Mapped[str] = mapped_column(default="")
    body_digest: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 of the body as it was posted last; empty before the first attempt."""
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]

    analysis: Mapped[Analysis] = relationship(back_populates="calls")


class PeerSeen(Base):
    """What came of the last attempts at a destination or webhook, whatever they were to bring there."""

    __tablename__ = "peer_seen"
    __table_args__ = (_one_of("kind", PeerKind),)

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    """A destination's ``AET@HOST:PORT``, or a webhook's name in the settings."""
    last_success_at: Mapped[datetime | None]
    """When it last took something."""
    last_failure_at: Mapped[datetime | None]
    failure: Mapped[str] = mapped_column(default="")
    """What went wrong then."""
    down_since: Mapped[datetime | None]
    """The first of the attempts in a row that did not reach it; empty while it is up."""


class WorkerProcess(Base):
    """A worker process that runs, or has died without a word."""

    __tablename__ = "worker_process"

    id: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(String(16))
    """The queue that it works on, ``analysis`` or ``delivery``."""
    host: Mapped[str]
    pid: Mapped[int]
    model: Mapped[str] = mapped_column(default="")
    """The models that it has loaded; empty before the first of them."""
    device: Mapped[str] = mapped_column(default="")
    """What they are computed on."""
    in_hand: Mapped[int] = mapped_column(default=0)
    """How many analyses, or deliveries, it works on."""
    busy_since: Mapped[datetime | None]
    started_at: Mapped[datetime]
    beaten_at: Mapped[datetime]


class DeliveryAttempt(Base):
    """How an attempt at a delivery or a webhook call ended, or several in a row that ended alike."""

    __tablename__ = "delivery_attempt"
    __table_args__ = (
        _one_of("outcome", AttemptOutcome),
        CheckConstraint("(delivery_id IS NULL) <> (webhook_call_id IS NULL)", name="one_delivery"),
        Index(None, "delivery_id", "id"),
        Index(None, "webhook_call_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("delivery.id"))
    webhook_call_id: Mapped[int | None] = mapped_column(ForeignKey("webhook_call.id"))
    attempt: Mapped[int]
    """The number of the last of them, as the delivery counts."""
    count: Mapped[int] = mapped_column(default=1)
    """How many there were in a row; all but one are told by their first and last time."""
    outcome: Mapped[str] = mapped_column(String(16))
    said: Mapped[str] = mapped_column(default="")
    """The status that came, or why none did, in one line."""
    seconds: Mapped[float | None]
    """How long the last of them took, where that was measured."""
    worker: Mapped[str]
    """Who made the last of them: ``HOST/PID``."""
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class Model(Base):
    """A model folder that the node may use. Without any row, the settings' model is the active one."""

    __tablename__ = "model"
    __table_args__ = (
        _one_of("state", ModelState),
        UniqueConstraint("model_id", "model_version"),
        Index("ix_model_alone", "state", unique=True, sqlite_where=_ALONE, postgresql_where=_ALONE),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[str]
    model_version: Mapped[str]
    folder: Mapped[str]
    """Where it is on every machine with an analysis worker; ``phantom`` is the shipped one."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what is in the folder (``litegpt.checksums``)."""
    demonstration: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16), default=ModelState.AVAILABLE)
    shadow_to: Mapped[str] = mapped_column(default="")
    """Where a shadow's results go: ``AET@HOST:PORT``; empty is nowhere."""
    added_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]
    """Since when it is what it is, of the active one and the shadow; else when it last was one of them."""


class Activation(Base):
    """A model became the active one. They are a pile: to roll back is to take the last one off."""

    __tablename__ = "model_activation"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_row_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    at: Mapped[datetime]
    who: Mapped[str]
    rolled_back_at: Mapped[datetime | None]
    """When it was taken off again."""

    model: Mapped[Model] = relationship()


class AuditEvent(Base):
    """An admin's action on studies: who asked what of which, and what came of it."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str]
    action: Mapped[str] = mapped_column(String(32))
    asked: Mapped[str]
    """Which studies, and how: JSON without any patient's name."""
    outcome: Mapped[str]
    """How many of them met which end: JSON."""


class RetrievalJob(Base):
    """A backlog of studies to be retrieved from one peer, one study at a time."""

    __tablename__ = "retrieval_job"
    __table_args__ = (_one_of("state", JobState), Index(None, "state", "not_before"))

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str]
    """``AET@HOST:PORT``."""
    filters: Mapped[str]
    """What is asked for, as JSON (``service.retrieval.filters``)."""
    method: Mapped[str] = mapped_column(String(8))
    again: Mapped[bool]
    """Whether studies whose images are here already are retrieved, too."""
    rate_per_hour: Mapped[float]
    """Studies an hour at most; 0 is no limit."""
    daily_window: Mapped[str] = mapped_column(default="")
    """``HH:MM-HH:MM`` of the hospital's day; empty is all day."""
    state: Mapped[str] = mapped_column(String(16), default=JobState.FINDING)
    questions_answered: Mapped[int] = mapped_column(default=0)
    """How far finding has come; it goes on from there."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Claims begun. A retriever writes only while this is still its own number."""
    not_before: Mapped[datetime]
    """When its next step is due; while a retriever works on one, when that one's lease ends."""
    away: Mapped[int] = mapped_column(default=0)
    """How often in a row the peer could not be reached, or did not answer a question."""
    failures: Mapped[int] = mapped_column(default=0)
    """How often in a row a study could not be retrieved; enough of them pause the job."""
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    found_at: Mapped[datetime | None]
    """When all of its studies had been found."""
    finished_at: Mapped[datetime | None]


class RetrievalStudy(Base):
    """One study of a job."""

    __tablename__ = "retrieval_study"
    __table_args__ = (
        _one_of("state", RetrievalState),
        UniqueConstraint("job_id", "study_instance_uid"),
        Index(None, "job_id", "state", "not_before"),
        # Progress is counted without the rows, and those that failed are paged by key.
        Index("ix_retrieval_study_progress", "job_id", "state", "images_expected", "images_come"),
        Index("ix_retrieval_study_ended", "finished_at", "job_id"),
        Index(
            "ix_retrieval_study_failed",
            "job_id",
            "id",
            sqlite_where=_HAS_FAILED,
            postgresql_where=_HAS_FAILED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("retrieval_job.id"))
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    accession_number: Mapped[str] = mapped_column(default="")
    study_date: Mapped[str] = mapped_column(String(8), default="")
    state: Mapped[str] = mapped_column(String(16), default=RetrievalState.WAITING)
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts that failed or whose retriever was killed. Waiting for a peer that is away is none."""
    not_before: Mapped[datetime]
    images_expected: Mapped[int] = mapped_column(default=0)
    """How many images of the wanted series the peer counts; known from the first attempt on."""
    images_come: Mapped[int] = mapped_column(default=0)
    """How many of these are here."""
    error: Mapped[str] = mapped_column(default="")
    finished_at: Mapped[datetime | None]


class User(Base):
    """A person who may sign in at the pages."""

    __tablename__ = "web_user"
    __table_args__ = (_one_of("role", Role),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str]
    """Argon2id, with its own salt and parameters."""
    role: Mapped[str] = mapped_column(String(16))
    active: Mapped[bool] = mapped_column(server_default=true())
    """Whether the user may sign in; one that may not keeps the name for the audit."""
    created_at: Mapped[datetime]


class WebSession(Base):
    """A user who is signed in at one browser."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the random token that the browser's cookie holds."""
    user_id: Mapped[int] = mapped_column(ForeignKey("web_user.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """The end, however busy the session is."""

    user: Mapped[User] = relationship()


class ApiToken(Base):
    """A client that may use the API, and the only token by which it does."""

    __tablename__ = "api_token"
    __table_args__ = (_one_of("role", Role),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    """The client's, as the audit has it."""
    role: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the random token, which is nowhere kept."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    """Not newer than an hour ago where it is in use: not every request is written down."""
    revoked_at: Mapped[datetime | None]
