"""How much there is of everything in the records, for who watches the node.

What moves comes from indices and costs little. What reads every row (findings, bytes, deliveries) is apart,
in ``Stock``, so that it can be asked for less often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from service.records import commitments
from service.records.commitments import Awaited
from service.records.forwarding import oldest_due
from service.records.peers_seen import Seen, seen
from service.records.standing import IN_EARNEST
from service.records.states import WAITING, AnalysisState, CallState, DeliveryState, PeerKind
from service.records.tables import Analysis, Delivery, Finding, Instance, Result, Study, WebhookCall
from service.records.workers import WorkerLine, workers


@dataclass(frozen=True, slots=True)
class Flow:
    """What moves.

    Attributes:
        studies: By state.
        analyses: By state, without those by a shadow.
        shadow_analyses: Those, by state.
        quarantined: Studies whose newest analysis has failed for good.
        oldest_waiting: When the oldest analysis that waits or runs was asked for.
        oldest_due: When the oldest result that is due was made, or the oldest image came, by destination.
        oldest_call: When the oldest call that is due was asked for, by webhook.
        destinations, webhooks: Whether each is up, of those that anything was ever sent to.
        workers: The worker processes.
        uncommitted: What waits for a destination to commit to it, by destination.
    """

    studies: Mapping[str, int]
    analyses: Mapping[str, int]
    shadow_analyses: Mapping[str, int]
    quarantined: int
    oldest_waiting: datetime | None
    oldest_due: Mapping[str, datetime]
    oldest_call: Mapping[str, datetime]
    destinations: Mapping[str, Seen]
    webhooks: Mapping[str, Seen]
    workers: tuple[WorkerLine, ...]
    uncommitted: Mapping[str, Awaited]


@dataclass(frozen=True, slots=True)
class Stored:
    """Objects in one state, and their bytes."""

    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FindingsOf:
    """Findings of one label by one model, reported or not."""

    model_id: str
    model_version: str
    label: str
    reported: bool
    findings: int


@dataclass(frozen=True, slots=True)
class Stock:
    """What has come together.

    Attributes:
        stored: Objects by state.
        deliveries: By destination and state.
        calls: By webhook and state.
        findings: Of every analysis that is done, without those by a shadow.
    """

    stored: Mapping[str, Stored]
    deliveries: Mapping[tuple[str, str], int]
    calls: Mapping[tuple[str, str], int]
    findings: tuple[FindingsOf, ...]


def flow(session: Session) -> Flow:
    """Counts what moves."""
    oldest = select(func.min(Analysis.created_at)).where(Analysis.state.in_(WAITING), IN_EARNEST)
    due = (
        select(Delivery.destination, func.min(Result.created_at))
        .join(Result, Result.id == Delivery.result_id)
        .join(Analysis, Analysis.id == Result.analysis_id)
        .where(Delivery.state == DeliveryState.DUE, IN_EARNEST)
        .group_by(Delivery.destination)
    )
    calls = (
        select(WebhookCall.webhook, func.min(WebhookCall.created_at))
        .where(WebhookCall.state == CallState.DUE)
        .group_by(WebhookCall.webhook)
    )
    return Flow(
        studies=_by_state(session, select(Study.state, func.count()).group_by(Study.state)),
        analyses=_analyses(session, IN_EARNEST),
        shadow_analyses=_analyses(session, ~IN_EARNEST),
        quarantined=session.scalar(_quarantined()) or 0,
        oldest_waiting=session.scalar(oldest),
        oldest_due=_earliest({row[0]: row[1] for row in session.execute(due)}, oldest_due(session)),
        oldest_call={row[0]: row[1] for row in session.execute(calls)},
        destinations=seen(session, PeerKind.DESTINATION),
        webhooks=seen(session, PeerKind.WEBHOOK),
        workers=workers(session),
        uncommitted=commitments.awaited(session),
    )


def stock(session: Session) -> Stock:
    """Counts what has come together."""
    objects = (
        select(Instance.state, func.count(), func.sum(Instance.size_bytes))
        .where(Instance.purged_at.is_(None))
        .group_by(Instance.state)
    )
    deliveries = select(Delivery.destination, Delivery.state, func.count()).group_by(
        Delivery.destination, Delivery.state
    )
    calls = select(WebhookCall.webhook, WebhookCall.state, func.count()).group_by(
        WebhookCall.webhook, WebhookCall.state
    )
    return Stock(
        stored={state: Stored(number, int(size)) for state, number, size in session.execute(objects)},
        deliveries={(to, state): number for to, state, number in session.execute(deliveries)},
        calls={(name, state): number for name, state, number in session.execute(calls)},
        findings=tuple(FindingsOf(*row) for row in session.execute(_findings())),
    )


def _earliest(one: Mapping[str, datetime], other: Mapping[str, datetime]) -> dict[str, datetime]:
    both = {**one, **other}
    return {name: min(at, one.get(name, at)) for name, at in both.items()}


def _by_state(session: Session, statement: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(statement)}


def _analyses(session: Session, *conditions: ColumnElement[bool]) -> dict[str, int]:
    counted = select(Analysis.state, func.count()).where(*conditions).group_by(Analysis.state)
    return _by_state(session, counted)


def _quarantined() -> Select[int]:
    newer = aliased(Analysis)
    superseded = exists().where(newer.study_id == Analysis.study_id, newer.id > Analysis.id, newer.counts)
    return select(func.count()).where(Analysis.state == AnalysisState.FAILED, Analysis.counts, ~superseded)


def _findings() -> Select[str, str, str, bool, int]:
    columns = (Analysis.model_id, Analysis.model_version, Finding.label, Finding.reported)
    counted = (
        select(*columns, func.count()).join(Analysis, Analysis.id == Finding.analysis_id).where(IN_EARNEST)
    )
    return counted.group_by(*columns)
