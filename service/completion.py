"""When a study is complete, and what follows: its analysis, or the statement that there is none to make.

DICOM has no "end of study" (PS3.4 B.4: no meaning lies in association boundaries), so completeness is a quiet
period after the last image that matters, a hard cap, or an admin's word.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, bindparam, exists, func, or_, select
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.eligibility import Eligibility
from service.errors import SettingsError
from service.models.roster import Roster, roster_of
from service.records.database import Records, utc_now
from service.records.states import WAITING, AnalysisState, InstanceState, Priority, Purpose, StudyState
from service.records.succession import (
    FOR_PATIENTS,
    GIVEN_UP,
    bring_back,
    count_as_newest,
    queue_again,
    supersede,
)
from service.records.tables import Analysis, AnalysisImage, Instance, Study
from service.rules.facts import Facts
from service.rules.rule import StudyRule
from service.rules.rulebook import Rulebook
from service.selftest.marks import is_selftest
from service.settings import Settings

log = logging.getLogger(__name__)

STUDIES_AT_ONCE: Final = 100

_IDENTITY: Final = ("input_digest", "model_id", "model_version", "settings_digest")
"""What names an analysis within its study."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The rules by which studies complete, and the model that then reads them.

    Attributes:
        quiet, maximum_receiving: When a study is complete.
        model: The active one.
        eligibility: Which images it reads.
        rulebook: The hospital's own rules.
        shadow: One that reads them beside it, to be compared.
        roster: The models that a rule may name.
    """

    quiet: timedelta
    maximum_receiving: timedelta
    model: ModelIdentity
    eligibility: Eligibility
    rulebook: Rulebook
    shadow: ModelIdentity | None = None
    roster: Roster = field(default_factory=lambda: Roster(()))

    @classmethod
    def at_present(cls, settings: Settings, records: Records, rulebook: Rulebook | None = None) -> Completion:
        """The rules that the settings ask for, and the models that are active and shadow now.

        Args:
            settings: The node's.
            records: Where its models are.
            rulebook: The hospital's own rules, where somebody keeps them who asks again and again; else they
                are read now.

        Raises:
            ModelError: If the settings' model is the active one and cannot be read.
            OutOfResources: If the records are away.
            SettingsError: If the hospital's own rules cannot be read.
        """
        with records.reading() as session:
            roster = roster_of(session, settings)
        shadow = roster.shadow.identity if roster.shadow else None
        present = cls.of(settings, roster.active.identity, shadow, rulebook)
        return replace(present, roster=Roster(roster.readers))

    @classmethod
    def of(
        cls,
        settings: Settings,
        model: ModelIdentity,
        shadow: ModelIdentity | None = None,
        rulebook: Rulebook | None = None,
    ) -> Completion:
        """The rules that the settings ask for.

        Raises:
            SettingsError: If the hospital's own rules cannot be read.
        """
        return cls(
            quiet=timedelta(seconds=settings.quiet_seconds),
            maximum_receiving=timedelta(seconds=settings.maximum_receiving_seconds),
            model=model,
            eligibility=Eligibility.of(settings),
            rulebook=rulebook or Rulebook(settings),
            shadow=shadow,
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

    def next_due(self, records: Records, now: datetime) -> datetime | None:
        """When the next study's time comes of those whose had not come ``now``; None where there is none.

        An image that comes meanwhile may put it off.
        """
        waits = (
            (Study.last_eligible_at, self.quiet),
            (Study.receiving_since, self.maximum_receiving),
        )
        with records.reading() as session:
            first = [
                session.scalar(
                    select(func.min(begins)).where(Study.state == StudyState.RECEIVING, begins > now - wait)
                )
                for begins, wait in waits
            ]
        dues = [begins + wait for begins, (_, wait) in zip(first, waits, strict=True) if begins is not None]
        return min(dues, default=None)

    def adopt_waiting(self, records: Records) -> int:
        """Gives the active model what still waits for a former one; returns how many analyses that were.

        What was asked for by another model's name, and what a shadow reads, stays with that one.
        """
        of_former = or_(Analysis.model_id != self.model.id, Analysis.model_version != self.model.version)
        waiting = (
            of_former,
            Analysis.purpose == Purpose.REGULAR,
            Analysis.state.in_(WAITING),
            Analysis.not_before <= utc_now(),
        )
        with records.writing() as session:
            rows = session.scalars(select(Analysis).where(*waiting).with_for_update(skip_locked=True)).all()
            for row in rows:
                self._adopt(session, row)
            return len(rows)

    def _adopt(self, session: Session, row: Analysis) -> None:
        now, present = utc_now(), {"model_id": self.model.id, "model_version": self.model.version}
        key = {"study_id": row.study_id, "input_digest": row.input_digest} | present
        twin = _find(session, settings_digest=row.settings_digest, **key)
        later = select(Analysis.id).where(Analysis.study_id == row.study_id, Analysis.id > row.id)
        newer = session.scalars(later.where(Analysis.purpose.in_(FOR_PATIENTS)).filter_by(**present)).first()
        if twin is not None or newer is not None:
            row.state, row.finished_at = AnalysisState.SUPERSEDED, now
            if twin is not None and newer is None:
                self._take_up(session, twin, row, now)
            return
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

    def _take_up(self, session: Session, twin: Analysis, row: Analysis, now: datetime) -> None:
        """Has the active model's own analysis of the same images, mostly an older one, stand for ``row``."""
        if twin.purpose == Purpose.SHADOW or twin.state in GIVEN_UP:
            queue_again(session, twin, now, Purpose.REGULAR)
            twin.priority = row.priority
            count_as_newest(session, twin, instead_of=row)
        else:
            bring_back(session, twin, instead_of=row)

    def complete(self, session: Session, study: Study, now: datetime) -> None:
        """Completes a study whose row is locked, with the analysis that follows."""
        study.state = StudyState.COMPLETE
        study.completed_at = now
        meant = list(session.scalars(to_be_read([study.id])))
        rule = self.rule_of(meant)
        left_out = bool(meant) and not rule.analyse
        if left_out:
            meant = []
        reader = self.reader_by(rule)
        purpose = Purpose.REGULAR if reader == self.model else Purpose.NAMED
        is_first = not session.scalar(_ANY_BEFORE, {"study": study.id})
        # Where some were purged: nothing to do if all were read together, else what is there is read.
        for images in (meant, kept(meant)):
            analysis = self.analysis_of(
                study.id, images, now, study.priority, rule, model=reader, purpose=purpose
            )
            twin = None if is_first else _twin_of(session, analysis)
            if twin is not None and twin.purpose != Purpose.SHADOW:
                return
        if twin is not None:
            queue_again(session, twin, now, purpose)
            analysis, twin.priority, twin.rule = twin, rule.priority_of(study.priority), rule.name
        if not images:
            analysis.state, analysis.finished_at = AnalysisState.NOT_APPLICABLE, now
            analysis.error = not_analysed(rule) if left_out else _why_nothing(session, study)
        if not is_first:
            supersede(session, [study.id], reader, other_than=twin)
        session.add(analysis)
        session.flush()
        if twin is not None:
            count_as_newest(session, twin)
        self._add_shadow(session, study, images, now, rule)
        log.info(
            "study %s is complete: analysis %d %s, %d images",
            study.study_instance_uid,
            analysis.id,
            analysis.state,
            len(images),
        )

    def rule_of(self, images: Sequence[Instance]) -> StudyRule:
        """The hospital's rule for a study that has these images to be read."""
        facts = [Facts.read(image.facts, image.calling_ae_title) for image in images]
        return self.rulebook.rules().for_study(facts)

    def reader_by(self, rule: StudyRule) -> ModelIdentity:
        """The model that a rule asks for; the active one where the node does not know that."""
        if not rule.model:
            return self.model
        try:
            return self.roster.called(rule.model).identity
        except SettingsError as error:
            log.warning("the rule %r: %s; the active one reads", rule.name, error)
            return self.model

    def _add_shadow(
        self, session: Session, study: Study, images: Sequence[Instance], now: datetime, rule: StudyRule
    ) -> None:
        """Has the shadow read the same, when it has time; a self-test ends with the active one's word."""
        if self.shadow is None or not images or is_selftest(study.study_instance_uid):
            return
        analysis = self.analysis_of(
            study.id, images, now, Priority.BACKLOG, rule, model=self.shadow, purpose=Purpose.SHADOW
        )
        if _twin_of(session, analysis):
            return
        supersede(session, [study.id], self.shadow, (Purpose.SHADOW,))
        session.add(analysis)

    def analysis_of(
        self,
        study_id: int,
        images: Sequence[Instance],
        now: datetime,
        priority: int,
        rule: StudyRule,
        *,
        model: ModelIdentity | None = None,
        purpose: Purpose = Purpose.REGULAR,
    ) -> Analysis:
        """An analysis of a study's images, queued; not in the records yet.

        Args:
            study_id: The study.
            images: What is read of it.
            now: From when on it is due.
            priority: How soon.
            model: By which model, if not by the active one.
            purpose: Why by that one; ``NAMED`` where it is to stay with a model that is not active.
        """
        reader = model or self.model
        return Analysis(
            study_id=study_id,
            input_digest=input_digest(images),
            model_id=reader.id,
            model_version=reader.version,
            settings_digest=self.eligibility.digest,
            demonstration=reader.demonstration,
            purpose=purpose,
            counts=purpose is not Purpose.SHADOW,
            state=AnalysisState.QUEUED,
            priority=rule.priority_of(priority),
            rule=rule.name,
            not_before=now,
            created_at=now,
            images=[AnalysisImage(instance_id=image.id, position=n) for n, image in enumerate(images)],
        )


def not_analysed(rule: StudyRule) -> str:
    """Why there is nothing to do for a study that a rule leaves out."""
    return f"the rule {rule.name!r} leaves it out"


_ANY_BEFORE: Final = select(exists().where(Analysis.study_id == bindparam("study")))
"""Few studies have an analysis when they are completed; of the others nothing is looked up."""


def _twin_of(session: Session, analysis: Analysis) -> Analysis | None:
    """The one in the records that reads the same."""
    identity = {name: getattr(analysis, name) for name in _IDENTITY}
    return _find(session, study_id=analysis.study_id, **identity)


def _find(session: Session, **named: object) -> Analysis | None:
    return session.scalars(select(Analysis).filter_by(**named)).first()


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


def _why_nothing(session: Session, study: Study) -> str:
    of_study = select(Instance).where(Instance.study_id == study.id).order_by(Instance.id)
    reasons = (image.reason or "purged" for image in session.scalars(of_study))
    return "nothing to analyse: " + "; ".join(dict.fromkeys(reasons))
