"""What came of analyses: their findings and results, written while the claim holds, and read again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, select, tuple_, update
from sqlalchemy.orm import Session, selectinload

from litegpt.boxes import Box
from litegpt.findings import Finding as ModelFinding
from litegpt.identity import ModelIdentity
from service.errors import LeaseLost, NeverAgain
from service.records import webhook_calls
from service.records.claims import Claim, claim_of
from service.records.database import Records, utc_now
from service.records.states import AnalysisState
from service.records.tables import Analysis, AnalysisImage, Delivery, Finding, Result
from service.rules.rule import ResultRule
from service.selftest.marks import is_held


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What was found in one image, or why it could not be read."""

    instance_id: int
    findings: tuple[ModelFinding, ...] = ()
    not_read: str = ""


@dataclass(frozen=True, slots=True)
class Concluded:
    """An analysis that is done, as its results are made of it.

    Attributes:
        claim: Its images, and what they replace.
        outcomes: What became of each image, in their order.
        model: Who read them.
        finished_at: When.
    """

    claim: Claim
    outcomes: tuple[ImageOutcome, ...]
    model: ModelIdentity
    finished_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """What came of a claimed analysis, to be written.

    Attributes:
        outcomes: What became of each image.
        results: What tells it.
        rule: Where they go.
        quarantined: Why no image could be read: it has failed for good, and its results say so.
    """

    claim: Claim
    outcomes: Sequence[ImageOutcome]
    results: Sequence[WrittenResult]
    rule: ResultRule
    quarantined: str = ""


@dataclass(frozen=True, slots=True)
class WrittenResult:
    """A DICOM object in the archive that says what an analysis found."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    template_version: str
    path: str
    digest: str


def finish(
    records: Records,
    claim: Claim,
    outcomes: Sequence[ImageOutcome],
    results: Sequence[WrittenResult],
    rule: ResultRule,
    *,
    quarantined: str = "",
) -> None:
    """Writes an analysis's findings and results, and a delivery of each to each destination of its rule.

    A result that an earlier attempt made already stays as it is: its bytes may have been delivered, if only
    to a shadow's test destination. Those of a self-test that is held go nowhere.

    Args:
        records: Where to.
        claim: The analysis.
        outcomes: What became of each image.
        results: What tells it.
        rule: Where they go.
        quarantined: Why no image could be read: it has failed for good, and its results say so.

    Raises:
        LeaseLost: If the claim is not ours any more; nothing is written.
    """
    conclusion = Conclusion(claim, outcomes, results, rule, quarantined)
    if finish_all(records, [conclusion]):
        raise LeaseLost(claim.lost)


def finish_all(records: Records, conclusions: Sequence[Conclusion]) -> list[Claim]:
    """Does as ``finish`` for all of them, in one transaction.

    Returns:
        Those claims that are not ours any more; of these nothing is written.
    """
    now = utc_now()
    with records.writing() as session:
        ended = _end(session, conclusions, now)
        ours = [one for one in conclusions if one.claim.analysis_id in ended]
        _write_outcomes(session, ours)
        _write_results(session, ours, now)
        for one in ours:
            for webhook in () if is_held(one.claim.study_instance_uid) else one.rule.webhooks:
                webhook_calls.call(session, one.claim.analysis_id, webhook)
    return [one.claim for one in conclusions if one not in ours]


_ANALYSES: Any = Analysis.__table__
_HELD: Final = (
    select(_ANALYSES.c.id)
    .where(
        tuple_(_ANALYSES.c.id, _ANALYSES.c.attempt).in_(bindparam("claims", expanding=True)),
        # Looked up by their ids: the index of states would do, were few others running, living or dead rows.
        _ANALYSES.c.state.concat("") == AnalysisState.RUNNING,
    )
    .order_by(_ANALYSES.c.id)
    .with_for_update()
)
"""In one order, whoever locks several."""
_END: Final = (
    update(_ANALYSES)
    .where(_ANALYSES.c.id.in_(_HELD))
    .values(
        state=bindparam("ended"),
        error=bindparam("why"),
        failures=bindparam("failed"),
        not_before=bindparam("now"),
        finished_at=bindparam("now"),
        result_rule=bindparam("by_rule"),
    )
    .returning(_ANALYSES.c.id)
)


def _end(session: Session, conclusions: Sequence[Conclusion], now: datetime) -> set[int]:
    """Writes how they ended, one statement for all that ended alike; those of which the claim still holds."""
    alike: dict[tuple[str, int, str], list[tuple[int, int]]] = defaultdict(list)
    for one in conclusions:
        failures = one.claim.failures + bool(one.quarantined)
        alike[one.quarantined, failures, one.rule.name].append((one.claim.analysis_id, one.claim.attempt))
    ended: set[int] = set()
    for (why, failures, rule), claims in alike.items():
        state = AnalysisState.FAILED if why else AnalysisState.DONE
        values = {"ended": state, "why": why, "failed": failures, "now": now, "by_rule": rule}
        ended.update(session.scalars(_END, {**values, "claims": claims}))
    return ended


_NOT_READ: Final = (
    update(AnalysisImage.__table__)  # type: ignore[arg-type]
    .where(
        AnalysisImage.analysis_id == bindparam("analysis"),
        AnalysisImage.instance_id == bindparam("instance"),
        AnalysisImage.not_read != bindparam("why"),
    )
    .values(not_read=bindparam("why"))
)
"""What an earlier attempt wrote goes, and what says so already is not written again."""


def _write_outcomes(session: Session, conclusions: Sequence[Conclusion]) -> None:
    not_read = [
        {"analysis": one.claim.analysis_id, "instance": outcome.instance_id, "why": outcome.not_read}
        for one in conclusions
        for outcome in one.outcomes
        if outcome.not_read or one.claim.attempt > 1
    ]
    if not_read:
        session.connection().execute(_NOT_READ, not_read)
    for one in conclusions:
        for outcome in one.outcomes:
            session.add_all(_finding_rows(one.claim, outcome))


def _write_results(session: Session, conclusions: Sequence[Conclusion], now: datetime) -> None:
    with_results = [one for one in conclusions if one.results]
    if not with_results:
        return
    of_analyses = select(Result).where(
        Result.analysis_id.in_([one.claim.analysis_id for one in with_results])
    )
    rows = session.scalars(of_analyses.options(selectinload(Result.deliveries)))
    made_before = {row.sop_instance_uid: row for row in rows}
    for one in with_results:
        destinations = () if is_held(one.claim.study_instance_uid) else one.rule.destinations
        for result in one.results:
            row = made_before.get(result.sop_instance_uid) or result_row(one.claim.analysis_id, result)
            goes_to = {delivery.destination for delivery in row.deliveries}
            row.deliveries += [
                Delivery(destination=to.address, priority=one.claim.priority, not_before=now)
                for to in destinations
                if result.kind in to.results and to.address not in goes_to
            ]
            session.add(row)


def result_row(analysis_id: int, written: WrittenResult) -> Result:
    """A result as the records keep it."""
    return Result(
        analysis_id=analysis_id,
        kind=written.kind,
        sop_class_uid=written.sop_class_uid,
        sop_instance_uid=written.sop_instance_uid,
        template_version=written.template_version,
        path=written.path,
        digest=written.digest,
        created_at=utc_now(),
    )


def concluded(records: Records, analysis_id: int) -> Concluded:
    """An analysis that is done, with all that its results are made of.

    Raises:
        NeverAgain: If it is not done.
    """
    with records.reading() as session:
        row = session.get_one(Analysis, analysis_id)
        if row.finished_at is None:
            raise NeverAgain(f"analysis {analysis_id} is not done")
        return Concluded(
            claim=claim_of(session, row),
            outcomes=tuple(image_outcome(image) for image in row.images),
            model=ModelIdentity(row.model_id, row.model_version, row.demonstration),
            finished_at=row.finished_at,
        )


def image_outcome(image: AnalysisImage) -> ImageOutcome:
    """What became of an image, as the records keep it."""
    findings = (
        ModelFinding(
            found.label,
            found.score,
            Box(*found.corners) if found.corners else None,
            found.box_score,
            found.reported,
        )
        for found in image.findings
    )
    return ImageOutcome(image.instance_id, tuple(findings), image.not_read)


def _finding_rows(claim: Claim, outcome: ImageOutcome) -> list[Finding]:
    return [
        Finding(
            analysis_id=claim.analysis_id,
            instance_id=outcome.instance_id,
            position=position,
            label=finding.label,
            score=finding.score,
            box_score=finding.box_score,
            reported=finding.reported,
            x_min=finding.box.x_min if finding.box else None,
            y_min=finding.box.y_min if finding.box else None,
            x_max=finding.box.x_max if finding.box else None,
            y_max=finding.box.y_max if finding.box else None,
        )
        for position, finding in enumerate(outcome.findings)
    ]
