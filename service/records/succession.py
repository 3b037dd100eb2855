"""Which analyses of a study stand: what a newer one replaces, and how an older one comes back.

An analysis cannot be made a second time: there is one of each study's images, model and settings. Where it is
to be the study's newest again, what came after it gives way (``Analysis.counts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.records import webhook_calls
from service.records.database import utc_now
from service.records.states import WAITING, AnalysisState, DeliveryState, Purpose
from service.records.tables import Analysis, AnalysisImage, Delivery, Finding, Result

GIVEN_UP: Final = (AnalysisState.CANCELLED, AnalysisState.SUPERSEDED)
FOR_PATIENTS: Final = (Purpose.REGULAR, Purpose.NAMED)
"""Of analyses whose results go where results go."""

SUPERSEDED: Final = "superseded by a newer analysis"
"""What a delivery says that was withdrawn for that."""


def supersede(
    session: Session,
    study_ids: Sequence[int],
    model: ModelIdentity,
    purposes: Sequence[Purpose] = FOR_PATIENTS,
    other_than: Analysis | None = None,
) -> None:
    """Ends what a newer analysis of the same model replaces: unfinished work, and results not sent yet.

    Args:
        session: A writing transaction.
        study_ids: Of which studies.
        model: Who reads them anew.
        purposes: Of what is replaced: a shadow and the active model leave each other alone.
        other_than: What replaces it, where that is in the records already.
    """
    older = select(Analysis.id).where(
        Analysis.study_id.in_(study_ids), Analysis.model_id == model.id, Analysis.purpose.in_(purposes)
    )
    if other_than is not None:
        older = older.where(Analysis.id != other_than.id)
    _end(session, older)


def end_readings_of(session: Session, instance_ids: Sequence[int]) -> None:
    """Ends whatever reads these images, by any model: they are not what they seemed."""
    _end(session, select(AnalysisImage.analysis_id).where(AnalysisImage.instance_id.in_(instance_ids)))


def _end(session: Session, older: Select[int]) -> None:
    # Analyses first: past a row that a worker is just finishing, we see the deliveries it made.
    session.execute(
        update(Analysis)
        .where(Analysis.id.in_(older), Analysis.state.in_(WAITING))
        .values(state=AnalysisState.SUPERSEDED, finished_at=utc_now())
    )
    session.execute(
        update(Delivery)
        .where(
            Delivery.state == DeliveryState.DUE,
            Delivery.result_id.in_(select(Result.id).where(Result.analysis_id.in_(older))),
        )
        .values(state=DeliveryState.WITHDRAWN, error=SUPERSEDED)
    )
    webhook_calls.withdraw(session, older, SUPERSEDED)


def count_as_newest(session: Session, row: Analysis, instead_of: Analysis | None = None) -> None:
    """Has its study judged by this analysis.

    Args:
        session: A writing transaction.
        row: The analysis.
        instead_of: In whose place; what came after that one goes before it still.
    """
    row.counts = True
    session.flush()
    later = [Analysis.study_id == row.study_id, Analysis.id > row.id, Analysis.counts]
    if instead_of is not None:
        later.append(Analysis.id <= instead_of.id)
    session.execute(update(Analysis).where(*later).values(counts=False))


def queue_again(session: Session, row: Analysis, now: datetime, purpose: Purpose | None = None) -> None:
    """Has it made once more, with all attempts before it; what it found before is forgotten.

    Args:
        session: A writing transaction.
        row: The analysis, locked.
        now: From when on it is due.
        purpose: Why, where that is another reason than before.
    """
    row.state, row.failures, row.error = AnalysisState.QUEUED, 0, ""
    row.not_before, row.finished_at = now, None
    if purpose is not None:
        row.purpose, row.counts = purpose, purpose is not Purpose.SHADOW
    session.execute(delete(Finding).where(Finding.analysis_id == row.id))
    of_analysis = AnalysisImage.analysis_id == row.id
    session.execute(
        update(AnalysisImage).where(of_analysis, AnalysisImage.not_read != "").values(not_read="")
    )


def bring_back(session: Session, row: Analysis, instead_of: Analysis | None = None) -> None:
    """Has it count as it was: done before, with those of its results due that a newer one had withdrawn."""
    count_as_newest(session, row, instead_of)
    withdrawn = (Delivery.state == DeliveryState.WITHDRAWN, Delivery.error == SUPERSEDED)
    results = select(Result.id).where(Result.analysis_id == row.id, Result.purged_at.is_(None))
    session.execute(
        update(Delivery)
        .where(*withdrawn, Delivery.result_id.in_(results))
        .values(state=DeliveryState.DUE, not_before=utc_now(), error="")
    )
    webhook_calls.bring_back(session, row.id, SUPERSEDED)
