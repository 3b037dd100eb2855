"""Nothing that was answered with Success is lost, and nothing is there twice, wherever the node is killed.

``LITEGPT_TEST_KILL_SCHEDULES=200`` plays that many schedules drawn by chance beside the ones played always
(docs/reliability.md); ``LITEGPT_TEST_KILL_SEED`` draws others.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.modality import Answered
from tests.faults.rig import Rig, rig_up
from tests.faults.schedules import Kill, Outcome, drawn, every_step_once, play
from tests.faults.steps import STEPS

SCHEDULES = int(os.environ.get("LITEGPT_TEST_KILL_SCHEDULES", "0"))
SEED = int(os.environ.get("LITEGPT_TEST_KILL_SEED", "1"))

pytestmark = pytest.mark.timeout(600 + 60 * SCHEDULES)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_up(tmp_path_factory.mktemp("rig"), random.Random(SEED)) as rig:
        yield rig


def test_nothing_is_lost_and_nothing_is_doubled(rig: Rig) -> None:
    luck = random.Random(SEED)
    schedules: list[list[Kill]] = [*every_step_once(), *(drawn(luck) for _ in range(SCHEDULES))]
    sent: list[Answered] = []
    outcomes = []
    for number, kills in enumerate(schedules):
        outcomes.append(play(rig, number, kills, sent))
        _tell(outcomes[-1])
        assert not outcomes[-1].broken, outcomes[-1]
    fired = Counter(kill.step for outcome in outcomes for kill in outcome.fired)
    _tell_sum(outcomes, fired)
    assert not [step.slug for step in STEPS if not fired[step]]


def _tell(outcome: Outcome) -> None:
    kills = "; ".join(f"{kill}{'' if kill in outcome.fired else ' [not reached]'}" for kill in outcome.kills)
    print(f"{outcome.number:4d}  {outcome.seconds:5.1f} s  {outcome.sent_again} again  {kills}", flush=True)


def _tell_sum(outcomes: list[Outcome], fired: Counter[object]) -> None:
    victims = Counter(kill.victim for outcome in outcomes for kill in outcome.fired)
    print(f"{len(outcomes)} schedules, {sum(fired.values())} kills: {dict(victims)}")
