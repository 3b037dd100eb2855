"""Several modalities at once, workers killed, the PACS restarted: the short form of the load test.

The long one: ``python -m tests.faults.load`` (docs/reliability.md).
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.load import SETTINGS, Plan, play
from tests.faults.rig import rig_up

pytestmark = pytest.mark.timeout(600)


def test_nothing_is_lost_and_nothing_is_doubled_under_load(tmp_path: Path) -> None:
    plan = Plan(modalities=4, images=10, kill_every_seconds=2, most_kills=2, pacs_restarts=1)
    with rig_up(tmp_path, random.Random(plan.seed), armed=False, settings=SETTINGS) as rig:
        course = play(rig, plan, lambda _: None)
    assert not course.broken
    assert len(course.answered) == plan.modalities * plan.images
    assert course.kills.total() and course.pacs_restarts == 1
