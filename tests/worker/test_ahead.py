"""While the model reads, the next batch is claimed and decoded, and the last one's results are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import select

from litegpt.engine import Read
from litegpt.findings import Reading
from service.errors import OutOfResources
from service.records import analyses, conclusions
from service.records.claims import Claim
from service.records.conclusions import Conclusion
from service.records.database import Records, utc_now
from service.records.states import Priority
from service.records.tables import Analysis
from tests.images import make_radiograph
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node
from worker.analysis import Analyst


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    small = small_node(tmp_path / "node", analysis_batch_size=2)
    yield small
    small.records.close()
    small.bell.close()


class Watching:
    """A model that does something of ours with each batch before it says that there is nothing."""

    square_sizes = (16,)

    def __init__(self, *before: Callable[[], object]) -> None:
        self._before = iter(before)
        self.batches: list[int] = []

    def read_ahead(self, items: Sequence[Any], load: Callable[[Any], Any]) -> list[Read[Any]]:
        for item in items:
            load(item)
        next(self._before, lambda: None)()
        self.batches.append(len(items))
        return [Read(item, Reading(())) for item in items]


def _analyst(node: SmallNode, model: Watching) -> Analyst:
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: model  # type: ignore[assignment,return-value]
    return analyst


def _take(node: SmallNode, number: int) -> list[Dataset]:
    images = [make_radiograph() for _ in range(number)]
    node.take(*images)
    return images


def _states(node: SmallNode) -> list[str]:
    with node.records.reading() as session:
        return [str(state) for state in session.scalars(select(Analysis.state).order_by(Analysis.id))]


def test_the_next_batch_is_decoded_and_the_last_one_written_while_the_model_reads(node: SmallNode) -> None:
    _take(node, 6)
    seen: list[list[str]] = []

    def first() -> None:
        wait_until(lambda: analyst._next and analyst._next.loading, 60, "the next batch being decoded").wait()
        seen.append(_states(node))

    def second() -> None:
        wait_until(lambda: _states(node)[:2] == ["done", "done"], 60, "the first results")
        seen.append(_states(node))

    analyst = _analyst(node, model := Watching(first, second))
    assert analyst.drain()
    assert model.batches == [2, 2, 2]
    assert seen == [["running"] * 4 + ["queued"] * 2, ["done"] * 2 + ["running"] * 4]
    assert _states(node) == ["done"] * 6


def test_what_is_claimed_ahead_keeps_its_lease(tmp_path: Path) -> None:
    lease = 1.0
    node = small_node(tmp_path / "short", analysis_batch_size=2, analysis_lease_seconds=lease)
    _take(node, 4)

    def slow() -> None:
        for _ in range(15):
            threading.Event().wait(lease / 5)
            with node.records.reading() as session:
                ends = session.scalars(select(Analysis.not_before)).all()
            assert min(ends) > utc_now()

    assert _analyst(node, Watching(slow)).drain()
    assert _states(node) == ["done"] * 4
    with node.records.reading() as session:
        assert set(session.scalars(select(Analysis.attempt))) == {1}
    node.records.close()
    node.bell.close()


def test_nothing_is_claimed_ahead_when_the_time_is_over(node: SmallNode) -> None:
    """And what was before is read, and written, before the task ends."""
    _take(node, 8)
    analyst = _analyst(node, model := Watching())

    def over() -> None:
        wait_until(lambda: analyst._next, 60, "the next batch")
        analyst._ahead_until = 0.0

    model._before = iter([over])
    assert analyst._round() and analyst._round()
    assert analyst._next is None
    analyst._conclude_last()
    assert model.batches == [2, 2]
    assert _states(node) == ["done"] * 4 + ["queued"] * 4


def test_nothing_is_asked_for_where_all_that_was_due_is_in_hand(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take(node, 3)
    asked_for: list[int] = []
    claim_first = analyses.claim_first

    def claim(*arguments: Any, **named: Any) -> analyses.Claimed:
        claimed = claim_first(*arguments, **named)
        asked_for.append(len(claimed.claims))
        return claimed

    monkeypatch.setattr(analyses, "claim_first", claim)
    during: list[int] = []
    model = Watching(
        lambda: wait_until(lambda: analyst._next, 60, "the next batch"),
        lambda: during.append(len(asked_for)),
    )
    analyst = _analyst(node, model)
    assert analyst.drain()
    assert model.batches == [2, 1]
    assert during == [2], "two batches were claimed, and nothing was asked for beside the second"
    assert _states(node) == ["done"] * 3


def test_one_that_failed_among_others_is_no_reason_not_to_claim_ahead(node: SmallNode) -> None:
    """It is left out of the batch, which is not full then, and waits."""
    _take(node, 2)
    with node.records.writing() as session:
        session.get_one(Analysis, 2).failures = 1
    analyst = _analyst(
        node, model := Watching(lambda: wait_until(lambda: analyst._next, 60, "the next batch"))
    )
    assert analyst.drain()
    assert model.batches == [1, 1]


def test_what_waits_with_less_urgency_is_claimed_beside_an_urgent_one(node: SmallNode) -> None:
    _take(node, 2)
    with node.records.writing() as session:
        session.get_one(Analysis, 2).priority = Priority.BACKLOG
    beside: list[list[str]] = []

    def look() -> None:
        wait_until(lambda: analyst._next, 60, "the next batch")
        beside.append(_states(node))

    analyst = _analyst(node, model := Watching(look))
    assert analyst.drain()
    assert model.batches == [1, 1]
    assert beside == [["running", "running"]]


def test_a_task_ends_with_nothing_in_hand(node: SmallNode) -> None:
    _take(node, 8)
    analyst = _analyst(node, model := Watching(lambda: threading.Event().wait(1.5)))
    assert not analyst.drain(seconds=1)
    assert model.batches == [2, 2]
    assert _states(node) == ["done"] * 4 + ["queued"] * 4


def test_a_worker_that_breaks_off_gives_back_what_it_claimed_ahead(node: SmallNode) -> None:
    images = _take(node, 4)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _analyst(node, Watching(interrupted)).drain()
    assert _states(node) == ["running"] * 2 + ["queued"] * 2
    assert node.show(images[3].StudyInstanceUID).error == "the worker broke off"
    with node.records.reading() as session:
        assert set(session.scalars(select(Analysis.failures))) == {0}


def test_one_that_has_failed_before_is_read_with_nothing_claimed_beside(node: SmallNode) -> None:
    _take(node, 3)
    with node.records.writing() as session:
        session.get_one(Analysis, 1).failures = 1
    beside: list[list[str]] = []
    assert _analyst(node, Watching(lambda: beside.append(_states(node)))).drain()
    assert beside == [["running", "queued", "queued"]]
    assert _states(node) == ["done"] * 3


def test_what_was_claimed_is_let_go_where_the_last_results_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has failed before waits for them. Its lease was renewed for as long as the worker lived."""
    node = small_node(tmp_path / "short", analysis_batch_size=2, analysis_lease_seconds=0.5)
    _take(node, 2)
    with node.records.writing() as session:
        session.get_one(Analysis, 2).failures = 1
    analyst = _analyst(node, Watching())

    def away(*_: Any, **__: Any) -> None:
        raise OutOfResources("the records are away")

    with monkeypatch.context() as records:
        records.setattr(conclusions, "finish_all", away)
        records.setattr(analyses, "postpone", away)
        with pytest.raises(OutOfResources):
            analyst.drain()
    assert not [thread for thread in threading.enumerate() if thread.name == "leases"]
    wait_until(lambda: analyst.drain() and _states(node) == ["done"] * 2, 60, "results")
    node.records.close()
    node.bell.close()


def test_what_cannot_be_written_together_is_written_one_by_one(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take(node, 2)
    together: list[int] = []
    finish_all = conclusions.finish_all

    def fails_together(records: Records, made: Sequence[Conclusion]) -> list[Claim]:
        together.append(len(made))
        if len(made) > 1:
            raise OutOfResources("a deadlock")
        return finish_all(records, made)

    monkeypatch.setattr(conclusions, "finish_all", fails_together)
    assert _analyst(node, Watching()).drain()
    assert together == [2, 1, 1]
    assert _states(node) == ["done"] * 2
