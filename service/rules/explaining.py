"""Which rule did what with a study, and which would now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.completion import to_be_read
from service.records.conclusions import image_outcome
from service.records.forwarding import came_from
from service.records.overview import study_called
from service.records.states import AnalysisState
from service.records.tables import Analysis, Instance, Study
from service.rules.facts import Facts
from service.rules.rule import ResultRule, StudyRule
from service.rules.rulebook import Rules

SomeRule = TypeVar("SomeRule", StudyRule, ResultRule)

_READ: Final = (AnalysisState.DONE, AnalysisState.FAILED)


@dataclass(frozen=True, slots=True)
class Asked:
    """One rule that was asked; ``why_not`` is empty where it holds, and then no other is asked."""

    rule: str
    decision: str
    why_not: str


@dataclass(frozen=True, slots=True)
class ExplainedImage:
    """An image, what rules see of it, and why it is not read, where it is not.

    Attributes:
        forward_rule: The study rule that holds of this image alone.
        forward_images_to: Where it would be passed on to, were it sent to the node now.
    """

    sop_instance_uid: str
    facts: Facts
    reason: str
    forward_rule: str
    forward_images_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A study before the rules.

    Attributes:
        study_rules, result_rules: Those that were asked now, in their order; the last one holds. Where there
            is nothing to read or nothing was found yet, nothing is asked.
        went_by: The rules of the newest analysis when it was made and when it was done; empty where it was
            not, or before there were rules.
    """

    study_instance_uid: str
    images: tuple[ExplainedImage, ...]
    study_rules: tuple[Asked, ...]
    result_rules: tuple[Asked, ...]
    analysis_id: int | None
    analysis_state: str
    went_by: tuple[str, str]

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def explain(session: Session, rules: Rules, name: str) -> Explanation:
    """Asks the rules about a study.

    Args:
        session: Of the records.
        rules: As they are now.
        name: Study Instance UID or its beginning, or accession number.

    Raises:
        NeverAgain: If there is no such study, or more than one.
    """
    study = session.get_one(Study, study_called(session, name))
    images = session.scalars(select(Instance).where(Instance.study_id == study.id).order_by(Instance.id))
    to_read = [_facts(image) for image in session.scalars(to_be_read([study.id]))]
    analysis = session.scalars(
        select(Analysis)
        .where(Analysis.study_id == study.id, Analysis.counts)
        .order_by(Analysis.id.desc())
        .limit(1)
    ).first()
    return Explanation(
        study_instance_uid=study.study_instance_uid,
        images=tuple(_image(rules, one) for one in images),
        study_rules=tuple(_ask(rules.study, lambda rule: rule.why_not(to_read))) if to_read else (),
        result_rules=_of_results(rules, analysis) if analysis and analysis.state in _READ else (),
        analysis_id=analysis.id if analysis else None,
        analysis_state=analysis.state if analysis else "",
        went_by=(analysis.rule, analysis.result_rule) if analysis else ("", ""),
    )


def _image(rules: Rules, image: Instance) -> ExplainedImage:
    facts = _facts(image)
    rule, destinations = rules.for_image(facts)
    to = tuple(one.address for one in destinations if not came_from(one, facts.calling_ae_title))
    return ExplainedImage(image.sop_instance_uid, facts, image.reason, rule.name, to)


def _of_results(rules: Rules, analysis: Analysis) -> tuple[Asked, ...]:
    images = [_facts(image.instance) for image in analysis.images]
    found = [finding for image in analysis.images for finding in image_outcome(image).findings]
    return tuple(_ask(rules.result, lambda rule: rule.why_not_result(images, found)))


def _ask(rules: Iterable[SomeRule], why_not: Callable[[SomeRule], str]) -> Iterator[Asked]:
    for rule in rules:
        reason = why_not(rule)
        # Where images go is asked of each by itself.
        decision = rule.reading if isinstance(rule, StudyRule) else rule.decision
        yield Asked(rule.name, decision, reason)
        if not reason:
            return


def _facts(image: Instance) -> Facts:
    return Facts.read(image.facts, image.calling_ae_title)
