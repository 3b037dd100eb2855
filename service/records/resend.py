"""Sending again what a destination refused: an admin's word that it would take it now."""

from __future__ import annotations

from typing import Any, Final, cast

from sqlalchemy import CursorResult, func, select, update

from service.records.database import Records, utc_now
from service.records.tables import Analysis, Delivery, DeliveryState, Result, Study

_REFUSED: Final = (DeliveryState.REFUSED, DeliveryState.REPLACED)


def resend_refused(records: Records, study_instance_uid: str) -> int:
    """Makes the refused results of a study's newest analysis due, and those that others went in place of.

    The sweeper rings for them.

    Why they were refused stays written until the next attempt says something else.

    Returns:
        How many, counted per destination.

    Raises:
        OutOfResources: If the database is away.
    """
    newest = (
        select(func.max(Analysis.id))
        .join(Study, Study.id == Analysis.study_id)
        .where(Study.study_instance_uid == study_instance_uid)
        .scalar_subquery()
    )
    results = select(Result.id).where(Result.analysis_id == newest)
    with records.writing() as session:
        made_due = cast(
            "CursorResult[Any]",
            session.execute(
                update(Delivery)
                .where(Delivery.state.in_(_REFUSED), Delivery.result_id.in_(results))
                .values(state=DeliveryState.DUE, not_before=utc_now())
                .execution_options(synchronize_session=False)
            ),
        )
        return made_due.rowcount
