"""Thresholds against scikit-learn's F1 and hand-worked cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from training.thresholds import ENOUGH, Tally, thresholds


def test_f1_by_hand() -> None:
    tally = Tally(said=[(0.9, True), (0.6, True), (0.5, False), (0.2, True)], found=[0.9, 0.6, 0.2, -1.0])
    # All: 3 of 4 right, 3 of 4 found. From 0.3 on: 2 of 3, 2 of 4. From 0.6 on: 2 of 2, 2 of 4.
    assert tally.f1(0.0) == pytest.approx(3 / 4)
    assert tally.f1(0.3) == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert tally.f1(0.6) == pytest.approx(2 / 3)
    assert tally.f1(0.95) == 0
    assert tally.best_threshold() == 0


def test_two_boxes_on_one_finding_find_it_once() -> None:
    tally = Tally(said=[(0.9, True), (0.8, True)], found=[0.9, -1.0])
    assert tally.f1(0.0) == pytest.approx(2 * 1 * 0.5 / 1.5)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=30),
    st.integers(0, 10),
    st.integers(0, 99),
)
def test_f1_is_that_of_scikit_learn(said: list[tuple[int, bool]], missed: int, step: int) -> None:
    scored = [(score / 100, right) for score, right in said]
    tally = Tally(scored, [score for score, right in scored if right] + [-1.0] * missed)
    truths = [right for _, right in scored] + [True] * missed
    kept = [score >= step / 100 for score, _ in scored] + [False] * missed
    wanted = f1_score(truths, kept, zero_division=0.0) if truths else 0.0
    assert tally.f1(step / 100) == pytest.approx(wanted)


def test_the_best_threshold_leaves_out_what_is_mostly_wrong() -> None:
    right = [(0.8, True)] * 9 + [(0.8, False)]
    wrong = [(0.3, False)] * 9 + [(0.3, True)]
    tally = Tally(right + wrong, [0.8] * 9 + [0.3])
    # The lowest above 0.3: whatever lies between the two is as good.
    assert tally.best_threshold() == 0.31


def test_a_label_with_too_few_examples_gets_the_threshold_of_all() -> None:
    common = Tally([(0.8, True)] * ENOUGH + [(0.4, False)] * ENOUGH, [0.8] * ENOUGH)
    rarely_said = Tally([(0.9, True)] * (ENOUGH - 1), [0.9] * (ENOUGH - 1) + [-1.0] * 31)
    rarely_true = Tally([(0.7, False)] * 50, [-1.0] * (ENOUGH - 1))
    always_right = Tally([(0.2, True)] * ENOUGH, [0.2] * ENOUGH)
    chosen, pooled = thresholds(
        {
            "common": common,
            "rarely said": rarely_said,
            "rarely true": rarely_true,
            "always right": always_right,
            "never": Tally(),
        }
    )
    assert pooled == ("rarely said", "rarely true", "never")
    assert (chosen["common"], chosen["always right"]) == (0.41, 0.0)
    # Of 109 true ones: from 0 on 59 right of 129, F1 118 / 238; from 0.41 on 39 of 89, 78 / 198; from 0.71 on
    # 39 of 39, 78 / 148; from 0.81 on 19 of 19, 38 / 128.
    assert chosen["never"] == chosen["rarely said"] == chosen["rarely true"] == 0.71


def test_where_nothing_was_said_everything_is_reported() -> None:
    assert thresholds({"a": Tally(), "b": Tally()}) == ({"a": 0.0, "b": 0.0}, ("a", "b"))
