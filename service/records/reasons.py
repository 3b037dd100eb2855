"""Why a study is not settled, in plain words: what, since when, and what an admin can do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.records.commitments import AWAITED_BY_VALUE
from service.records.standing import IN_EARNEST, newest_analyses
from service.records.states import WAITING, AnalysisState, CallState, DeliveryState, InstanceState, StudyState
from service.records.tables import Analysis, Commitment, Delivery, Instance, Result, Study, WebhookCall


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a study waits for.

    Attributes:
        what: In plain words, without any patient's name.
        since: When it began.
        remedy: What an admin can do.
    """

    what: str
    since: datetime
    remedy: str


def reasons_of(session: Session, study_ids: Sequence[int]) -> Mapping[int, list[Reason]]:
    """All reasons of these studies, the weightiest of each first."""
    studies = {study.id: study for study in session.scalars(select(Study).where(Study.id.in_(study_ids)))}
    reasons: dict[int, list[Reason]] = defaultdict(list)
    for study_id, reason in _in_turn(session, studies):
        reasons[study_id].append(reason)
    session.expunge_all()
    return reasons


def _in_turn(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    yield from _conflicts(session, studies)
    for study in studies.values():
        if study.state == StudyState.RECEIVING:
            yield study.id, _receiving(study)
    yield from _analyses(session, studies)
    yield from _deliveries(session, studies)
    yield from _forwards(session, studies)
    yield from _uncommitted(session, studies)
    yield from _calls(session, studies)


def _conflicts(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    rows = session.execute(
        select(Instance.study_id, func.count(), func.min(Instance.received_at))
        .where(Instance.study_id.in_(studies), Instance.state == InstanceState.CONFLICT)
        .group_by(Instance.study_id)
    )
    for study_id, count, since in rows:
        what = f"{_number(count, 'image')} held: the same SOP Instance UID had come with other pixels"
        uid = studies[study_id].study_instance_uid
        remedy = (
            f"the first to come counts meanwhile; litegpt-node conflict list names the files, "
            f"conflict keep-first {uid} or conflict take-later {uid} decides"
        )
        yield study_id, Reason(what, since, remedy)


def _receiving(study: Study) -> Reason:
    remedy = (
        f"litegpt-node force {study.study_instance_uid} completes it now; "
        "litegpt-node health sweeper tells whether there is a sweeper to do it"
    )
    return Reason("waits for its quiet period to be complete", study.receiving_since, remedy)


def _analyses(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    """Each study's newest analysis, and older ones that still wait."""
    newest = newest_analyses(studies)
    rows = session.execute(
        select(Study.id, Analysis)
        .outerjoin(newest, newest.c.study_id == Study.id)
        .outerjoin(
            Analysis,
            (Analysis.study_id == Study.id)
            & ((Analysis.id == newest.c.id) | (Analysis.state.in_(WAITING) & IN_EARNEST)),
        )
        .where(Study.id.in_(studies))
        .order_by(Analysis.id.desc())
    )
    for study_id, analysis in rows:
        study = studies[study_id]
        if analysis is not None and analysis.state in WAITING:
            yield study_id, _waiting(analysis)
        elif study.state == StudyState.COMPLETE and (reason := _without_end(study, analysis)):
            yield study_id, reason


def _waiting(analysis: Analysis) -> Reason:
    before = f"; last error: {_line(analysis.error)}" if analysis.error else ""
    if analysis.state == AnalysisState.RUNNING:
        what = f"analysis {analysis.id} runs, attempt {analysis.attempt}{before}"
        since = analysis.started_at or analysis.created_at
        return Reason(what, since, "wait: what a killed worker leaves behind is taken up again by itself")
    tried = f" after {_number(analysis.attempt, 'attempt')}" if analysis.attempt else ""
    what = f"analysis {analysis.id} is queued{tried}{before}"
    remedy = "an analysis worker must run; litegpt-node check tells whether broker and model are in order"
    return Reason(what, analysis.created_at, remedy)


def _without_end(study: Study, analysis: Analysis | None) -> Reason | None:
    """Why a complete study is not analysed though nothing waits; ``None`` where it is, or need not be."""
    uid = study.study_instance_uid
    if analysis is not None and analysis.state == AnalysisState.FAILED:
        what = f"analysis {analysis.id} is quarantined after {_number(analysis.attempt, 'attempt')}: "
        remedy = f"litegpt-node show {uid} names its files; litegpt-node retry {uid} tries again"
        return Reason(what + _line(analysis.error), analysis.finished_at or analysis.created_at, remedy)
    if analysis is None or analysis.state == AnalysisState.SUPERSEDED:
        what = "it is complete, but there is no analysis of what was received"
        remedy = f"litegpt-node rerun {uid} has it analysed"
        return Reason(what, study.completed_at or study.receiving_since, remedy)
    return None


def _deliveries(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    newest = newest_analyses(studies)
    due, refused = Delivery.state == DeliveryState.DUE, Delivery.state == DeliveryState.REFUSED
    counts = (refused & (Analysis.id == newest.c.id) & (Study.state == StudyState.COMPLETE)) | due
    what = (Analysis.study_id, Delivery.destination, Delivery.state, Delivery.error)
    rows = session.execute(
        select(*what, func.count().label("objects"), func.min(Result.created_at).label("since"))
        .join(Result, Result.id == Delivery.result_id)
        .join(Analysis, Analysis.id == Result.analysis_id)
        .join(Study, Study.id == Analysis.study_id)
        .join(newest, newest.c.study_id == Study.id)
        .where(Study.id.in_(studies), counts, IN_EARNEST)
        .group_by(*what)
        .order_by(Delivery.state.desc(), Delivery.destination, Delivery.error)
    )
    for row in rows:
        yield row.study_id, _delivery(row, studies[row.study_id].study_instance_uid)


def _forwards(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    refused = (Delivery.state == DeliveryState.REFUSED) & (Study.state == StudyState.COMPLETE)
    what = (Instance.study_id, Delivery.destination, Delivery.state, Delivery.error)
    rows = session.execute(
        select(*what, func.count().label("objects"), func.min(Instance.received_at).label("since"))
        .join(Instance, Instance.id == Delivery.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(Study.id.in_(studies), refused | (Delivery.state == DeliveryState.DUE))
        .group_by(*what)
        .order_by(Delivery.state.desc(), Delivery.destination, Delivery.error)
    )
    for row in rows:
        yield row.study_id, _delivery(row, studies[row.study_id].study_instance_uid, "image")


def _uncommitted(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    of_them: tuple[Any, ...] = (
        *(Delivery.destination, func.count(), func.min(Delivery.sent_at)),
        *(func.max(Delivery.commitment_asks), func.max(Commitment.error)),
    )
    results = (
        select(Analysis.study_id, *of_them)
        .join(Result, Result.analysis_id == Analysis.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Analysis.study_id.in_(studies), IN_EARNEST)
    )
    images = (
        select(Instance.study_id, *of_them)
        .join(Delivery, Delivery.instance_id == Instance.id)
        .where(Instance.study_id.in_(studies))
    )
    for noun, rows, of in (("result", results, Analysis), ("image", images, Instance)):
        asked = (
            rows.outerjoin(Commitment, Commitment.id == Delivery.commitment_id)
            .where(AWAITED_BY_VALUE)
            .group_by(of.study_id, Delivery.destination)
            .order_by(Delivery.destination)
        )
        for study_id, to, count, since, asks, error in session.execute(asked):
            last = f", last error: {_line(error)}" if error else ""
            told = f"asked {asks} times{last}" if asks else "not asked yet, or just now"
            what = f"{_number(count, noun)} not committed to by {to} yet, {told}"
            remedy = "it is asked again by itself; the destination's own log tells why it does not report"
            yield study_id, Reason(what, since, remedy)


def _calls(session: Session, studies: Mapping[int, Study]) -> Iterator[tuple[int, Reason]]:
    newest = newest_analyses(studies)
    due, refused = WebhookCall.state == CallState.DUE, WebhookCall.state == CallState.REFUSED
    counts = (refused & (Analysis.id == newest.c.id) & (Study.state == StudyState.COMPLETE)) | due
    rows = session.execute(
        select(Analysis.study_id, WebhookCall)
        .join(Analysis, Analysis.id == WebhookCall.analysis_id)
        .join(Study, Study.id == Analysis.study_id)
        .join(newest, newest.c.study_id == Study.id)
        .where(Study.id.in_(studies), counts)
        .order_by(WebhookCall.id)
    )
    for study_id, call in rows:
        yield study_id, _call(call, studies[study_id].study_instance_uid)


def _call(call: WebhookCall, uid: str) -> Reason:
    if call.state == CallState.REFUSED:
        what = f"webhook {call.webhook} was not told: {_line(call.error)}"
        remedy = (
            f"litegpt-node webhook-test {call.webhook} tries it; litegpt-node resend {uid} tells it again"
        )
        return Reason(what, call.created_at, remedy)
    last = f"last error: {_line(call.error)}" if call.error else "not tried yet, or just now"
    what = f"webhook {call.webhook} is due to be told, {last}"
    return Reason(what, call.created_at, "it is tried again by itself")


def _delivery(row: Any, uid: str, noun: str = "result") -> Reason:
    objects = _number(row.objects, noun)
    if row.state == DeliveryState.REFUSED:
        remedy = f"set the destination up to take it, then litegpt-node resend {uid}"
        if noun == "image":
            remedy += f"; litegpt-node cancel {uid} gives it up"
        return Reason(f"{objects} refused by {row.destination}: {_line(row.error)}", row.since, remedy)
    last = f"last error: {_line(row.error)}" if row.error else "not tried yet, or just now"
    remedy = "litegpt-node check tells whether the destination answers; it is tried again by itself"
    return Reason(f"{objects} due at {row.destination}, {last}", row.since, remedy)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _line(text: str) -> str:
    return " ".join(text.split())
