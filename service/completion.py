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

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.eligibility import Eligibility
from service.records import webhook_calls
from service.records.database import Records, utc_now
from service.records.tables import (
    WAITING,
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
SUPERSEDED: Final = "superseded by a newer analysis"
"""Why what was not sent is withdrawn."""

_IDENTITY: Final = ("input_digest", "model_id", "model_version", "settings_digest")
"""What names an analysis within its study."""


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
                self.complete(session, study, now)
            return len(studies)

    def adopt_waiting(self, records: Records) -> int:
        """Gives the present model what still waits for a former one; returns how many analyses that were.

        A worker claims only what is for its own model, so after an upgrade they would wait for ever.
        """
        present = {"model_id": self.model.id, "model_version": self.model.version}
        of_former = or_(Analysis.model_id != self.model.id, Analysis.model_version != self.model.version)
        waiting = (
            of_former,
            Analysis.state.in_(WAITING),
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

    def complete(self, session: Session, study: Study, now: datetime) -> None:
        """Completes a study whose row is locked, with the analysis that follows."""
        study.state = StudyState.COMPLETE
        study.completed_at = now
        meant = list(session.scalars(to_be_read([study.id])))
        # Where some were purged: nothing to do if all were read together, else what is there is read.
        for images in (meant, kept(meant)):
            analysis = self.analysis_of(study.id, images, now, study.priority)
            key = {name: getattr(analysis, name) for name in _IDENTITY}
            if session.scalars(select(Analysis).filter_by(study_id=study.id, **key)).first():
                return
        if not images:
            analysis.state, analysis.finished_at = AnalysisState.NOT_APPLICABLE, now
            analysis.error = _why_nothing(session, study)
        supersede(session, [study.id], self.model)
        session.add(analysis)
        session.flush()
        log.info(
            "study %s is complete: analysis %d %s, %d images",
            study.study_instance_uid,
            analysis.id,
            analysis.state,
            len(images),
        )

    def analysis_of(
        self, study_id: int, images: Sequence[Instance], now: datetime, priority: int
    ) -> Analysis:
        """An analysis of a study's images by the present model, queued; not in the records yet."""
        return Analysis(
            study_id=study_id,
            input_digest=input_digest(images),
            model_id=self.model.id,
            model_version=self.model.version,
            settings_digest=self.eligibility.digest,
            demonstration=self.model.demonstration,
            state=AnalysisState.QUEUED,
            priority=priority,
            not_before=now,
            created_at=now,
            images=[AnalysisImage(instance_id=image.id, position=n) for n, image in enumerate(images)],
        )


def input_digest(images: Sequence[Instance]) -> str:
    """Names a set of images by what they are, not by the order they came in."""
    lines = sorted(f"{image.sop_instance_uid} {image.digest}\n" for image in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def to_be_read(study_ids: Sequence[int]) -> Select[Instance]:
    """The images of some studies that are meant to be read, purged or not, in the order they came in."""
    meant = (Instance.study_id.in_(study_ids), Instance.eligible, Instance.state == InstanceState.STORED)
    return select(Instance).where(*meant).order_by(Instance.id)


def kept(images: Sequence[Instance]) -> list[Instance]:
    """Those whose files were not purged."""
    return [image for image in images if image.purged_at is None]


def supersede(session: Session, study_ids: Sequence[int], model: ModelIdentity) -> None:
    """Ends what a newer analysis of the same model replaces: unfinished work, and results not sent yet."""
    older = select(Analysis.id).where(Analysis.study_id.in_(study_ids), Analysis.model_id == model.id)
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


def _why_nothing(session: Session, study: Study) -> str:
    of_study = select(Instance).where(Instance.study_id == study.id).order_by(Instance.id)
    reasons = (image.reason or "purged" for image in session.scalars(of_study))
    return "nothing to analyse: " + "; ".join(dict.fromkeys(reasons))
