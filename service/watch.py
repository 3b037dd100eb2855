"""What happens in the node at this moment, by queries that stay quick however many studies there are.

Each reads a few ends of an index: the last rows by number, those of a state, those since a moment. A time
stamp without an index is bounded by one that has one, ``not_before``: that of an analysis is set again when
it ends, and that of a delivery is the end of the lease under which it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.archive import Archive
from service.heartbeat import is_beating_anywhere
from service.records import figures, overview
from service.records.overview import DELIVERED
from service.records.standing import IN_EARNEST
from service.records.states import AnalysisState, DeliveryState, StudyState
from service.records.tables import Analysis, Delivery, Instance, Study
from service.settings import Settings
from service.sweeper import PART

WINDOW: Final = timedelta(minutes=5)
STUDIES: Final = 10
_ENDED: Final = (AnalysisState.DONE, AnalysisState.NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class Rates:
    """How many a minute, over the last ``window_seconds``: images, analyses, and objects delivered."""

    window_seconds: int
    received: float
    analysed: float
    delivered: float


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, and since when the oldest does.

    Attributes:
        receiving: Studies that are not complete yet.
        waiting: Analyses that no worker has, those that are tried again later too.
        running: Analyses that a worker has.
        oldest: When the oldest of both was asked for.
    """

    receiving: int
    waiting: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class DestinationLoad:
    """Objects for one destination: delivered in the window, due, and refused until an admin acts."""

    destination: str
    delivered: int
    due: int
    refused: int


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study, and where it stands in a word."""

    study_instance_uid: str
    accession_number: str
    received_at: datetime
    images: int
    state: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment."""

    at: datetime
    sweeper_beats: bool
    rates: Rates
    queue: Queue
    destinations: tuple[DestinationLoad, ...]
    studies: tuple[StudyLine, ...]
    free_bytes: int
    minimum_free_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The same for a script; time stamps in ISO 8601."""
        return overview.as_plain_dict(self)


def look(session: Session, settings: Settings, now: datetime) -> Frame:
    """What there is to see now.

    Args:
        session: A reading transaction.
        settings: The node's, for its data folder.
        now: The end of the window that rates are over.
    """
    since = now - WINDOW
    delivered = _delivered_since(session, since)
    minutes = WINDOW.total_seconds() / 60
    return Frame(
        at=now,
        sweeper_beats=is_beating_anywhere(settings.data_dir, PART),
        rates=Rates(
            window_seconds=int(WINDOW.total_seconds()),
            received=_received_since(session, since) / minutes,
            analysed=_analysed_since(session, since) / minutes,
            delivered=sum(delivered.values()) / minutes,
        ),
        queue=_queue(session),
        destinations=_destinations(session, delivered),
        studies=tuple(_line(view) for view in overview.list_studies(session, STUDIES)),
        free_bytes=Archive(settings.data_dir).free_bytes(),
        minimum_free_bytes=settings.minimum_free_bytes,
    )


def _received_since(session: Session, since: datetime) -> int:
    """Images come with rising numbers: those before the last one that is too old are not read."""
    last_before = session.scalar(
        select(Instance.id).where(Instance.received_at < since).order_by(Instance.id.desc()).limit(1)
    )
    recent = select(func.count()).select_from(Instance).where(Instance.received_at >= since)
    if last_before is not None:
        recent = recent.where(Instance.id > last_before)
    return session.scalar(recent) or 0


def _analysed_since(session: Session, since: datetime) -> int:
    ended = select(func.count()).select_from(Analysis).where(Analysis.state.in_(_ENDED), IN_EARNEST)
    recent = ended.where(Analysis.not_before >= since, Analysis.finished_at >= since)
    return session.scalar(recent) or 0


def _delivered_since(session: Session, since: datetime) -> dict[str, int]:
    rows = session.execute(
        select(Delivery.destination, func.count())
        .where(Delivery.state.in_(DELIVERED), Delivery.not_before >= since, Delivery.sent_at >= since)
        .group_by(Delivery.destination)
    )
    return {row[0]: row[1] for row in rows}


def _queue(session: Session) -> Queue:
    lines = figures.queue(session)
    receiving = select(func.count()).select_from(Study).where(Study.state == StudyState.RECEIVING)
    return Queue(
        receiving=session.scalar(receiving) or 0,
        waiting=sum(line.queued for line in lines),
        running=sum(line.running for line in lines),
        oldest=min((line.oldest for line in lines), default=None),
    )


def _destinations(session: Session, delivered: dict[str, int]) -> tuple[DestinationLoad, ...]:
    due = figures.by_destination(session, DeliveryState.DUE)
    refused = figures.by_destination(session, DeliveryState.REFUSED)
    return tuple(
        DestinationLoad(name, delivered.get(name, 0), due.get(name, 0), refused.get(name, 0))
        for name in sorted({*delivered, *due, *refused})
    )


def _line(view: overview.StudyView) -> StudyLine:
    return StudyLine(
        study_instance_uid=view.study_instance_uid,
        accession_number=view.accession_number,
        received_at=max(image.received_at for image in view.images),
        images=len(view.images),
        state=view.outcome,
    )
