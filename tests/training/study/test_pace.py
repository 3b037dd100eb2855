"""How long the rest of a study takes, by a clock of the test's own."""

from __future__ import annotations

import pytest

from training.study.pace import Pace


@pytest.mark.parametrize(
    ("minutes", "ended", "left", "words"),
    [
        (10, 0, 5, ""),
        (10, 2, 0, ""),
        (10, 2, 3, ", about 15 min left"),
        (130, 1, 2, ", about 4 h 20 min left"),
        (0.1, 1, 1, ", less than a minute left"),
    ],
)
def test_the_rest_takes_the_mean_of_what_was(minutes: float, ended: int, left: int, words: str) -> None:
    now = [100.0]
    pace = Pace(clock=lambda: now[0])
    for _ in range(ended):
        pace.run_ended()
    now[0] += 60 * minutes
    assert pace.left(left) == words
