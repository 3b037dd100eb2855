"""Whose turn it is, on a clock that the test moves."""

from __future__ import annotations

from litegpt.identity import ModelIdentity
from service.models.roster import KnownModel, Roster
from service.records.states import ModelState, Priority
from worker.turns import SHARE, Turns

STAT, ROUTINE, BACKLOG = Priority


def _model(version: str, state: ModelState = ModelState.AVAILABLE) -> KnownModel:
    return KnownModel(ModelIdentity("model", version, False), version, state=state)


ACTIVE, SHADOW, OTHER = _model("a", ModelState.ACTIVE), _model("s", ModelState.SHADOW), _model("o")
ROSTER = Roster((ACTIVE, SHADOW, OTHER, _model("r", ModelState.RETIRED)))


class Worker:
    """Loads one model at a time, each in two seconds."""

    def __init__(self, backlog_every: int = 1000, roster: Roster = ROSTER) -> None:
        self.now, self.roster = 0.0, roster
        self.turns = Turns(backlog_every, lambda: self.now)
        self.loaded: set[KnownModel] = set()

    def asks(self) -> list[str]:
        """Priority and version, in turn."""
        questions = self.turns.questions(self.roster, self.loaded.__contains__)
        return [f"{priority} {model.identity.version}" for priority, model in questions]

    def read(self, model: KnownModel) -> None:
        if model not in self.loaded:
            self.now += 2
            self.turns.loaded(model, 2)
            self.loaded = {model}
        self.turns.read(model)


def test_the_active_model_comes_first_and_the_retired_one_never() -> None:
    assert Worker().asks() == [f"{priority} {of}" for priority in Priority for of in "aso"]


def test_while_a_model_is_fresh_no_other_is_loaded_but_for_a_patient() -> None:
    worker = Worker()
    worker.read(SHADOW)
    of_patients = ["stat a", "stat s", "stat o", "routine a", "routine s", "routine o"]
    assert worker.asks() == [*of_patients, "backlog s"]
    worker.read(ACTIVE)
    assert worker.asks() == ["stat a", "stat o", "routine a", "routine o", "backlog a"]


def test_after_its_time_the_next_ones_backlog_is_asked_first() -> None:
    worker = Worker()
    worker.read(SHADOW)
    worker.now += 2 * SHARE
    assert worker.asks()[-3:] == ["backlog o", "backlog a", "backlog s"]
    worker.read(OTHER)
    assert worker.asks()[-1] == "backlog o"
    worker.now += 2 * SHARE
    assert worker.asks()[-3:] == ["backlog a", "backlog s", "backlog o"]


def test_models_that_are_loaded_take_turns() -> None:
    worker = Worker(roster=Roster((ACTIVE, SHADOW)))
    worker.loaded = {ACTIVE, SHADOW}
    first = []
    for _ in range(4):
        first.append(next(asked for asked in worker.asks() if asked.startswith("backlog")))
        worker.read(SHADOW if first[-1].endswith("s") else ACTIVE)
    assert first == ["backlog a", "backlog s"] * 2


def test_every_so_often_the_backlog_is_asked_first() -> None:
    worker = Worker(backlog_every=3)
    assert [worker.asks()[0].split()[0] for _ in range(6)] == ["stat", "stat", "backlog"] * 2


def test_one_model_is_never_held_up_by_itself() -> None:
    worker = Worker(roster=Roster((ACTIVE,)))
    worker.read(ACTIVE)
    for _ in range(3):
        assert worker.asks() == ["stat a", "routine a", "backlog a"]
        worker.now += 100
