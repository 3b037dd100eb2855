"""What was written before the clock was set back: it would wait until the clock is there again.

Nothing that the node makes wait does so for longer than its settings say, so whatever is due later than that
was written by a clock that was ahead.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.records.states import AnalysisState, CallState, DeliveryState, StudyState
from service.records.tables import Analysis, Delivery, SafekeepingRequest, Study, WebhookCall
from service.settings import Settings

SLACK: Final = timedelta(seconds=60)
"""By so much clocks may differ, and nothing is said of it."""


def put_right(session: Session, settings: Settings, now: datetime) -> int:
    """Has what could not be due so late wait no longer than it may; returns how many rows that were.

    What is under way is given a whole lease, since whoever holds it may be at work.
    """
    reading, bringing = (
        timedelta(seconds=seconds)
        for seconds in (settings.analysis_lease_seconds, settings.delivery_lease_seconds)
    )
    longest = max(reading, bringing, timedelta(seconds=settings.retry_maximum_seconds)) + SLACK
    receiving = (Study.state == StudyState.RECEIVING,)
    asked = SafekeepingRequest.state == CallState.DUE
    return sum(
        _put(session, column, now + ahead, to, *conditions)
        for column, ahead, to, conditions in (
            (Study.last_eligible_at, SLACK, now, receiving),
            (Study.receiving_since, SLACK, now, receiving),
            (Analysis.not_before, longest, now, (Analysis.state == AnalysisState.QUEUED,)),
            (Analysis.not_before, longest, now + reading, (Analysis.state == AnalysisState.RUNNING,)),
            (Delivery.not_before, longest, now + bringing, (Delivery.state == DeliveryState.DUE,)),
            (WebhookCall.not_before, longest, now + bringing, (WebhookCall.state == CallState.DUE,)),
            (SafekeepingRequest.not_before, longest, now + bringing, (asked,)),
        )
    )


def _put(
    session: Session,
    column: InstrumentedAttribute[Any],
    latest: datetime,
    to: datetime,
    *conditions: ColumnElement[bool],
) -> int:
    change = update(column.class_).where(column > latest, *conditions).values({column: to})
    result = session.execute(change.execution_options(synchronize_session=False))
    return cast("CursorResult[Any]", result).rowcount
