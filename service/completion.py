"""When a study is complete, and what follows: its analysis, or the statement that there is none to make.

DICOM has no "end of study" (PS3.4 B.4: no meaning lies in association boundaries), so completeness is a quiet
period after the last image that matters, a hard cap, or an admin's word.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.eligibility import Eligibility
from service.errors import NeverAgain
from service.records.database import Records, utc_now
from service.records.tables import (
    Analysis,
    AnalysisImage,
    AnalysisState,
    Delivery,
    DeliveryState,
    Instance,
    InstanceState,
    Result,
    Study,
    StudyState,
)
from service.settings import Settings

log = logging.getLogger(__name__)

STUDIES_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Completion:
    """The rules by which studies complete, and the model that then reads them."""

    quiet: timedelta
    maximum_receiving: timedelta
    model: ModelIdentity
    eligibility: Eligibility

    @classmethod
    def of(cls, settings: Settings, model: ModelIdentity) -> Completion:
        """The rules that the settings ask for."""
        return cls(
            quiet=timedelta(seconds=settings.quiet_seconds),
            maximum_receiving=timedelta(seconds=settings.maximum_receiving_seconds),
            model=model,
            eligibility=Eligibility.of(settings),
        )

    def complete_due(self, records: Records) -> int:
        """Completes every study whose time has come; returns how many that were."""
        now = utc_now()
        with records.writing() as session:
            studies = session.scalars(
                select(Study)
                .where(
                    Study.state == StudyState.RECEIVING,
                    or_(
                        Study.last_eligible_at <= now - self.quiet,
                        Study.receiving_since <= now - self.maximum_receiving,
                    ),
                )
                .order_by(Study.last_eligible_at)
                .limit(STUDIES_AT_ONCE)
                .with_for_update(skip_locked=True)
            ).all()
            for study in studies:
                self._complete(session, study, now)
            return len(studies)

    def adopt_waiting(self, records: Records) -> int:
        """Gives the present model what still waits for a former one; returns how many analyses that were.

        A worker claims only what is for its own model, so after an upgrade they would wait for ever.
        """
        present = {"model_id": self.model.id, "model_version": self.model.version}
        of_former = or_(Analysis.model_id != self.model.id, Analysis.model_version != self.model.version)
        waiting = (
            of_former,
            Analysis.state.in_((AnalysisState.QUEUED, AnalysisState.RUNNING)),
            Analysis.not_before <= utc_now(),
        )
        with records.writing() as session:
            rows = session.scalars(select(Analysis).where(*waiting).with_for_update(skip_locked=True)).all()
            for row in rows:
                key = {"study_id": row.study_id, "input_digest": row.input_digest} | present
                twin = select(Analysis.id).filter_by(settings_digest=row.settings_digest, **key)
                newer = select(Analysis.id).where(Analysis.study_id == row.study_id, Analysis.id > row.id)
                if session.scalars(twin).first() or session.scalars(newer.filter_by(**present)).first():
                    row.state, row.finished_at = AnalysisState.SUPERSEDED, utc_now()
                    continue
                log.info(
                    "analysis %d goes from %s %s to %s %s",
                    row.id,
                    row.model_id,
                    row.model_version,
                    self.model.id,
                    self.model.version,
                )
                row.state, row.demonstration = AnalysisState.QUEUED, self.model.demonstration
                row.model_id, row.model_version = self.model.id, self.model.version
            return len(rows)

    def force(self, records: Records, study_instance_uid: str) -> None:
        """Completes one study now, whatever may still come.

        Raises:
            NeverAgain: If there is no such study.
        """
        with records.writing() as session:
            study = session.scalars(
                select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
            ).one_or_none()
            if study is None:
                raise NeverAgain(f"no such study: {study_instance_uid}")
            if study.state == StudyState.RECEIVING:
                self._complete(session, study, utc_now())

    def _complete(self, session: Session, study: Study, now: datetime) -> None:
        study.state = StudyState.COMPLETE
        study.completed_at = now
        images = list(
            session.scalars(
                select(Instance)
                .where(
                    Instance.study_id == study.id,
                    Instance.eligible,
                    Instance.state == InstanceState.STORED,
                )
                .order_by(Instance.id)
            )
        )
        key = {
            "input_digest": input_digest(images),
            "model_id": self.model.id,
            "model_version": self.model.version,
            "settings_digest": self.eligibility.digest,
        }
        if session.scalars(select(Analysis).filter_by(study_id=study.id, **key)).first():
            return
        _supersede(session, study, self.model)
        analysis = Analysis(
            study_id=study.id,
            demonstration=self.model.demonstration,
            state=AnalysisState.QUEUED if images else AnalysisState.NOT_APPLICABLE,
            error="" if images else _why_nothing(session, study),
            priority=study.priority,
            not_before=now,
            created_at=now,
            finished_at=None if images else now,
            images=[AnalysisImage(instance=image, position=n) for n, image in enumerate(images)],
            **key,
        )
        session.add(analysis)
        session.flush()
        log.info(
            "study %s is complete: analysis %d %s, %d images",
            study.study_instance_uid,
            analysis.id,
            analysis.state,
            len(images),
        )


def input_digest(images: Sequence[Instance]) -> str:
    """Names a set of images by what they are, not by the order they came in."""
    lines = sorted(f"{image.sop_instance_uid} {image.digest}\n" for image in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _supersede(session: Session, study: Study, model: ModelIdentity) -> None:
    """Ends what a newer analysis of the same model replaces: unfinished work, and results not sent yet."""
    older = select(Analysis.id).where(Analysis.study_id == study.id, Analysis.model_id == model.id)
    # Analyses first: past a row that a worker is just finishing, we see the deliveries it made.
    session.execute(
        update(Analysis)
        .where(Analysis.id.in_(older), Analysis.state.in_((AnalysisState.QUEUED, AnalysisState.RUNNING)))
        .values(state=AnalysisState.SUPERSEDED, finished_at=utc_now())
    )
    session.execute(
        update(Delivery)
        .where(
            Delivery.state == DeliveryState.DUE,
            Delivery.result_id.in_(select(Result.id).where(Result.analysis_id.in_(older))),
        )
        .values(state=DeliveryState.WITHDRAWN, error="superseded by a newer analysis")
    )


def _why_nothing(session: Session, study: Study) -> str:
    reasons = session.scalars(
        select(Instance.reason).where(Instance.study_id == study.id).order_by(Instance.id)
    )
    return "nothing to analyse: " + "; ".join(dict.fromkeys(reasons))
