"""Webhook calls as work, like deliveries: made within a transaction, claimed by lease, written by the holder.

A call that was withdrawn and has been answered all the same is written as sent: that is the truth.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.records.attempts import Ended, note_call
from service.records.database import Records, utc_now
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import AttemptOutcome, CallState
from service.records.tables import Analysis, WebhookCall

UNANSWERED: Final = (CallState.DUE, CallState.REFUSED)
_STILL_DUE = WebhookCall.state == CallState.DUE


@dataclass(frozen=True, slots=True)
class CallClaim:
    """One call that this worker may make until its lease ends."""

    call_id: int
    webhook: str
    attempt: int
    analysis_id: int
    study_instance_uid: str
    created_at: datetime

    @property
    def message_id(self) -> str:
        """By which a receiver knows that it has had this call before, also among those of other nodes."""
        call = f"{self.study_instance_uid} {self.analysis_id} {self.webhook}"
        return f"msg_{uuid.uuid5(uuid.NAMESPACE_OID, call).hex}"


def call(session: Session, analysis_id: int, webhook_name: str) -> None:
    """Has an analysis told to a webhook, once, within the caller's transaction."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    now = utc_now()
    values = {
        "analysis_id": analysis_id,
        "webhook": webhook_name,
        "state": CallState.DUE,
        "attempt": 0,
        "not_before": now,
        "error": "",
        "body_digest": "",
        "created_at": now,
    }
    session.execute(dialect.insert(WebhookCall).values(values).on_conflict_do_nothing())


def claim(records: Records, *, limit: int, lease: timedelta) -> list[CallClaim]:
    """Claims up to ``limit`` calls that are due, the oldest first."""
    now = utc_now()
    with records.writing() as session:
        rows = session.scalars(
            select(WebhookCall)
            .where(_is_due())
            .order_by(WebhookCall.not_before, WebhookCall.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        claimed = []
        for row in rows:
            row.attempt += 1
            row.not_before = now + lease
            claimed.append(
                CallClaim(
                    call_id=row.id,
                    webhook=row.webhook,
                    attempt=row.attempt,
                    analysis_id=row.analysis_id,
                    study_instance_uid=row.analysis.study.study_instance_uid,
                    created_at=row.created_at,
                )
            )
        return claimed


def count_due(session: Session) -> int:
    """How many calls wait for a worker now."""
    return session.scalar(select(func.count()).select_from(WebhookCall).where(_is_due())) or 0


def begin(records: Records, claim: CallClaim, body_digest: str, lease: timedelta) -> None:
    """Makes sure, just before posting, that the call is still ours and still due, for another lease.

    Raises:
        LeaseLost: If it was withdrawn, or taken up by another worker.
    """
    with records.writing() as session:
        _write(session, claim, None, _STILL_DUE, body_digest=body_digest, not_before=utc_now() + lease)


def sent(records: Records, claim: CallClaim, said: str = "", seconds: float | None = None) -> None:
    """Writes that the receiver has it.

    Raises:
        LeaseLost: If another worker has taken the call up since.
    """
    with records.writing() as session:
        ended = Ended(AttemptOutcome.SENT, said, seconds)
        _write(session, claim, ended, state=CallState.SENT, error="", sent_at=utc_now())


def refused(records: Records, claim: CallClaim, error: str, seconds: float | None = None) -> None:
    """Writes that it will not be told.

    Raises:
        LeaseLost: If it was withdrawn, or another worker has taken the call up since.
    """
    with records.writing() as session:
        ended = Ended(AttemptOutcome.REFUSED, error, seconds)
        _write(session, claim, ended, _STILL_DUE, state=CallState.REFUSED, error=error)


def postpone(
    records: Records, claim: CallClaim, error: str, retry: Retry, seconds: float | None = None
) -> None:
    """Puts a call back for a later attempt.

    Raises:
        LeaseLost: If it was withdrawn, or another worker has taken the call up since.
    """
    with records.writing() as session:
        ended, at = Ended(AttemptOutcome.TRY_AGAIN, error, seconds), utc_now() + retry.wait(claim.attempt)
        _write(session, claim, ended, _STILL_DUE, error=error, not_before=at)


def withdraw(
    session: Session, analyses: Select[int], why: str, states: Sequence[CallState] = (CallState.DUE,)
) -> None:
    """Gives up the calls of these analyses that are in one of the states."""
    session.execute(
        update(WebhookCall)
        .where(WebhookCall.analysis_id.in_(analyses), WebhookCall.state.in_(states))
        .values(state=CallState.WITHDRAWN, error=why)
        .execution_options(synchronize_session=False)
    )


def bring_back(session: Session, analysis_id: int, why: str) -> None:
    """Makes the calls of an analysis due that were given up for this reason."""
    session.execute(
        update(WebhookCall)
        .where(
            WebhookCall.analysis_id == analysis_id,
            WebhookCall.state == CallState.WITHDRAWN,
            WebhookCall.error == why,
        )
        .values(state=CallState.DUE, not_before=utc_now(), error="")
    )


def studies_untold(session: Session, study_ids: Sequence[int]) -> set[int]:
    """Those of the studies of which a call is due, or was refused."""
    rows = select(Analysis.study_id).join(WebhookCall).where(WebhookCall.state.in_(UNANSWERED))
    return set(session.scalars(rows.where(Analysis.study_id.in_(study_ids))))


def _is_due() -> Any:
    return and_(WebhookCall.state == CallState.DUE, WebhookCall.not_before <= utc_now())


def _write(
    session: Session, claim: CallClaim, ended: Ended | None, *conditions: Any, **values: object
) -> None:
    ours = (WebhookCall.id == claim.call_id, WebhookCall.attempt == claim.attempt, *conditions)
    lost = f"webhook call {claim.call_id}: attempt {claim.attempt} is over, or withdrawn"
    write_while_held(session, update(WebhookCall).where(*ours).values(**values), lost)
    if ended is not None:
        note_call(session, claim.call_id, claim.attempt, ended)
