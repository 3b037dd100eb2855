"""What was received against what was analysed and delivered: the sums, and the studies that are not settled.

The sums are made by the database and the studies come one by one, so memory does not grow with the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Executable, String, case, func, literal, select, text
from sqlalchemy.orm import Session

from service.records.commitments import AWAITED
from service.records.overview import DELIVERED
from service.records.reasons import Reason, reasons_of
from service.records.standing import IN_EARNEST, Question, Verdict, newest_analyses, standing
from service.records.states import AnalysisState, DeliveryState, InstanceState
from service.records.tables import Analysis, AnalysisImage, Delivery, Instance, Result, Study

REASONS_TOLD: Final = 20
"""How many reasons against images are told apart; they quote headers, so there may be any number."""

RESULTS: Final = "results"
IMAGES: Final = "images"
"""What is delivered."""

_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class ImageSums:
    """Received objects by what became of them; ``received`` is the sum of all others.

    Attributes:
        received: All of them.
        analysed: Read by their study's newest analysis.
        not_read: Given to it, but they could not be read.
        waiting: To be analysed.
        failed: Those of analyses in quarantine.
        cancelled: Those of analyses that were cancelled.
        not_eligible: Not to be analysed.
        conflict: Held: their SOP Instance UID had come with other pixels.
        reasons: Why those are not eligible, the most frequent first; the rest under "other reasons".
    """

    received: int
    analysed: int
    not_read: int
    waiting: int
    failed: int
    cancelled: int
    not_eligible: int
    conflict: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class DeliverySums:
    """What was to go to one destination by what became of it; ``made`` is the sum of all others.

    Attributes:
        objects: ``results`` that were made for it, or ``images`` that are passed on to it.
        committed: How many of those delivered it commits to.
        uncommitted: How many of them wait for that.
    """

    destination: str
    made: int
    delivered: int
    due: int
    refused: int
    replaced: int
    withdrawn: int
    objects: str = RESULTS
    committed: int = 0
    uncommitted: int = 0


@dataclass(frozen=True, slots=True)
class StandingSum:
    """How many studies are in a state."""

    verdict: Verdict
    state: str
    studies: int


@dataclass(frozen=True, slots=True)
class Sums:
    """The whole of it; ``studies`` says how many of them got which verdict, and the rows of ``standings``
    split these further."""

    standings: tuple[StandingSum, ...]
    images: ImageSums
    deliveries: tuple[DeliverySums, ...]

    def studies(self, *verdicts: Verdict) -> int:
        """How many studies there are, or how many with one of these verdicts."""
        return sum(row.studies for row in self.standings if not verdicts or row.verdict in verdicts)

    def as_json(self) -> dict[str, Any]:
        """The same for a script."""
        return {
            "studies": {
                "received": self.studies(),
                **{verdict.value: self.studies(verdict) for verdict in Verdict},
                "states": [asdict(row) for row in self.standings],
            },
            "images": asdict(self.images),
            "deliveries": [asdict(row) for row in self.deliveries],
        }


@dataclass(frozen=True, slots=True)
class UnsettledStudy:
    """A study that is open or stuck, and why."""

    study_instance_uid: str
    accession_number: str
    verdict: Verdict
    state: str
    since: datetime
    reasons: tuple[Reason, ...]


def sum_up(session: Session, question: Question) -> Sums:
    """Counts everything that the question asks for."""
    table = standing(question)
    counted = select(table.c.verdict, table.c.state, func.count()).group_by(table.c.verdict, table.c.state)
    with _without_sorting(session):
        rows = session.execute(counted).all()
    standings = [StandingSum(Verdict(verdict), state, studies) for verdict, state, studies in rows]
    standings.sort(key=lambda row: (list(Verdict).index(row.verdict), -row.studies, row.state))
    return Sums(tuple(standings), _images(session, question), _deliveries(session, question))


@contextmanager
def _without_sorting(session: Session) -> Iterator[None]:
    """Has PostgreSQL count by hashing while the block runs.

    It takes words that it computes for as many as there are rows, and would sort those of all studies, on
    disk, to count a few words.
    """
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        session.execute(text("SET LOCAL enable_sort = off"))
    yield
    if is_postgresql:
        session.execute(text("SET LOCAL enable_sort = on"))


def unsettled(
    session: Session,
    question: Question,
    limit: int | None = None,
    verdicts: Sequence[Verdict] = (Verdict.OPEN, Verdict.STUCK),
) -> Iterator[UnsettledStudy]:
    """The open and the stuck studies, or one kind of them, oldest first, read as they are asked for."""
    table = standing(question)
    rows = session.execute(
        select(table)
        .where(table.c.verdict.in_([verdict.value for verdict in verdicts]))
        .order_by(table.c.since, table.c.id)
        .limit(limit),
        execution_options={"yield_per": _AT_ONCE},
    )
    for page in rows.partitions():
        reasons = reasons_of(session, [row.id for row in page])
        for row in page:
            yield UnsettledStudy(
                row.study_instance_uid,
                row.accession_number,
                Verdict(row.verdict),
                row.state,
                row.since,
                tuple(reasons[row.id]),
            )


def _images(session: Session, question: Question) -> ImageSums:
    newest = newest_analyses()
    fates_of_all = (
        select(_what_became_of_it().label("fate"))
        .select_from(Instance)
        .outerjoin(newest, newest.c.study_id == Instance.study_id)
        .outerjoin(Analysis, Analysis.id == newest.c.id)
        .outerjoin(
            AnalysisImage,
            (AnalysisImage.analysis_id == newest.c.id) & (AnalysisImage.instance_id == Instance.id),
        )
    )
    rows = _asked_for(fates_of_all, question, Instance.study_id).subquery()
    counted = select(rows.c.fate, func.count()).group_by(rows.c.fate)
    fates = _counts(session, counted)
    names = [name for name in ImageSums.__dataclass_fields__ if name not in {"received", "reasons"}]
    counts = {name: fates.get(name, 0) for name in names}
    reasons = _reasons(session, question, counts["not_eligible"])
    return ImageSums(received=sum(fates.values()), **counts, reasons=reasons)


def _what_became_of_it() -> Any:
    def is_(name: str) -> Any:
        return literal(name, String())

    return case(
        (Instance.state == InstanceState.CONFLICT, is_("conflict")),
        (~Instance.eligible, is_("not_eligible")),
        (AnalysisImage.position.is_(None), is_("waiting")),
        ((Analysis.state == AnalysisState.DONE) & (AnalysisImage.not_read == ""), is_("analysed")),
        (Analysis.state == AnalysisState.DONE, is_("not_read")),
        (Analysis.state == AnalysisState.FAILED, is_("failed")),
        (Analysis.state == AnalysisState.CANCELLED, is_("cancelled")),
        else_=is_("waiting"),
    )


def _reasons(session: Session, question: Question, in_all: int) -> dict[str, int]:
    against = select(Instance.reason, func.count()).where(
        ~Instance.eligible, Instance.state != InstanceState.CONFLICT
    )
    frequent = (
        _asked_for(against, question, Instance.study_id)
        .group_by(Instance.reason)
        .order_by(func.count().desc(), Instance.reason)
        .limit(REASONS_TOLD)
    )
    reasons = _counts(session, frequent)
    others = in_all - sum(reasons.values())
    return reasons | ({"other reasons": others} if others else {})


def _counts(session: Session, statement: Executable) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(statement)}


def _deliveries(session: Session, question: Question) -> tuple[DeliverySums, ...]:
    waiting = func.sum(case((AWAITED, 1), else_=0))
    counted = select(Delivery.destination, Delivery.state, func.count(), waiting)
    results = (
        counted.join(Result, Result.id == Delivery.result_id)
        .join(Analysis, Analysis.id == Result.analysis_id)
        .where(IN_EARNEST)
    )
    # Said in so many words, that PostgreSQL looks for them alone where they are few.
    images = counted.join(Instance, Instance.id == Delivery.instance_id).where(
        Delivery.instance_id.is_not(None)
    )
    at: dict[tuple[str, str], dict[str, int]] = {}
    uncommitted: Counter[tuple[str, str]] = Counter()
    for objects, rows, study_id in (
        (RESULTS, results, Analysis.study_id),
        (IMAGES, images, Instance.study_id),
    ):
        asked = _asked_for(rows, question, study_id).group_by(Delivery.destination, Delivery.state)
        for destination, state, count, awaited in session.execute(asked):
            at.setdefault((destination, objects), {})[state] = count
            uncommitted[destination, objects] += awaited
    names = sorted(at, key=lambda name: (name[1] != RESULTS, name[0]))
    return tuple(_delivery_sums(*name, at[name], uncommitted[name]) for name in names)


def _asked_for(rows: Any, question: Question, study_id: Any) -> Any:
    """Those rows whose study is asked for; where all are, no study is looked at."""
    conditions = question.asks_for()
    return rows.join(Study, Study.id == study_id).where(*conditions) if conditions else rows


def _delivery_sums(
    destination: str, objects: str, by_state: dict[str, int], uncommitted: int
) -> DeliverySums:
    return DeliverySums(
        destination,
        objects=objects,
        made=sum(by_state.values()),
        delivered=sum(by_state.get(state, 0) for state in DELIVERED),
        due=by_state.get(DeliveryState.DUE, 0),
        refused=by_state.get(DeliveryState.REFUSED, 0),
        replaced=by_state.get(DeliveryState.REPLACED, 0),
        withdrawn=by_state.get(DeliveryState.WITHDRAWN, 0),
        committed=by_state.get(DeliveryState.COMMITTED, 0),
        uncommitted=uncommitted,
    )
