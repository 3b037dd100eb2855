"""What happens in the node at this moment, by queries that stay quick however many studies there are.

Each reads a few ends of an index: the last rows by number, those of a state, those since a moment. A time
stamp without an index is bounded by one that has one, ``not_before``: that of an analysis is set again when
it ends, and that of a delivery is the end of the lease under which it was sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.archive import Archive
from service.attendance import ProcessLine, attendance
from service.heartbeat import is_beating_anywhere
from service.records import figures, overview, peers_seen
from service.records.database import Records
from service.records.overview import DELIVERED
from service.records.peers_seen import Reach, Seen
from service.records.silence import Silence, silences
from service.records.standing import IN_EARNEST
from service.records.states import AnalysisState, DeliveryState, PeerKind, StudyState
from service.records.tables import Analysis, Delivery, Instance, Study
from service.settings import Settings
from service.sweeper import PART

WINDOW: Final = timedelta(minutes=5)
STUDIES: Final = 10
SILENCES_EVERY_SECONDS: Final = 15.0
_MOST_OF_TIME: Final = 0.05
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
    """Objects for one destination: delivered in the window, due, and refused until an admin acts; and whether
    it is up, as the last attempts have shown."""

    destination: str
    delivered: int
    due: int
    refused: int
    state: str = Reach.UNKNOWN.value
    down_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookLoad:
    """Calls of one webhook that are due, and that were refused or given up; and whether it is up."""

    webhook: str
    due: int
    refused: int
    state: str
    down_since: datetime | None


@dataclass(frozen=True, slots=True)
class SilentModality:
    """A modality that is silent for longer than usual at this time of the week."""

    calling_ae_title: str
    last: datetime
    usual_seconds: float


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
    processes: tuple[ProcessLine, ...]
    destinations: tuple[DestinationLoad, ...]
    webhooks: tuple[WebhookLoad, ...]
    silent: tuple[SilentModality, ...]
    studies: tuple[StudyLine, ...]
    free_bytes: int
    minimum_free_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The same for a script; time stamps in ISO 8601."""
        return overview.as_plain_dict(self)


class Watcher:
    """Looks again and again."""

    def __init__(self, records: Records, settings: Settings) -> None:
        self._records = records
        self._settings = settings
        self._heard: tuple[Silence, ...] = ()
        self._listen_at = 0.0

    def look(self, now: datetime) -> Frame:
        """What there is to see now.

        Raises:
            OutOfResources: If the records are away.
        """
        with self._records.snapshot() as session:
            self._listen(session, now)
            return look(session, self._settings, now, self._heard)

    def _listen(self, session: Session, now: datetime) -> None:
        """Who has been silent for how long costs more than all else, and is looked up now and then."""
        begun = time.monotonic()
        if begun < self._listen_at:
            return
        self._heard = silences(session, now, self._settings.zone)
        took = time.monotonic() - begun
        self._listen_at = begun + max(SILENCES_EVERY_SECONDS, took / _MOST_OF_TIME)


def look(session: Session, settings: Settings, now: datetime, heard: Iterable[Silence] = ()) -> Frame:
    """What there is to see now.

    Args:
        session: A reading transaction.
        settings: The node's, for its data folder and its webhooks.
        now: The end of the window that rates are over.
        heard: For how long modalities have been silent, and usually are.
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
        processes=attendance(session, settings.data_dir, now),
        destinations=_destinations(session, delivered),
        webhooks=_webhooks(session, settings),
        silent=tuple(
            SilentModality(one.calling_ae_title, one.last, one.usual.total_seconds())
            for one in heard
            if one.usual is not None and one.is_unusual(now)
        ),
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
    seen = peers_seen.seen(session, PeerKind.DESTINATION)
    return tuple(
        DestinationLoad(
            name,
            delivered.get(name, 0),
            due.get(name, 0),
            refused.get(name, 0),
            seen.get(name, Seen()).reach.value,
            seen.get(name, Seen()).down_since,
        )
        for name in sorted({*delivered, *due, *refused})
    )


def _webhooks(session: Session, settings: Settings) -> tuple[WebhookLoad, ...]:
    return tuple(
        WebhookLoad(line.webhook, line.waiting, line.refused, line.seen.reach.value, line.seen.down_since)
        for line in figures.webhooks(session, settings.webhook_names)
    )


def _line(view: overview.StudyView) -> StudyLine:
    return StudyLine(
        study_instance_uid=view.study_instance_uid,
        accession_number=view.accession_number,
        received_at=max(image.received_at for image in view.images),
        images=len(view.images),
        state=view.outcome,
    )
