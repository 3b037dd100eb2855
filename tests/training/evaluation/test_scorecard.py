"""The tables a person reads."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from tests.training.evaluation.random_cases import random_cases
from training.evaluation.measures import Measures, evaluate
from training.evaluation.scorecard import ROWS, sheets, to_json, to_markdown, to_rich


@pytest.fixture(scope="module")
def measured() -> Measures:
    cases, readings = random_cases(np.random.default_rng(1), 30)
    return evaluate(cases, readings, resamples=5)


@pytest.fixture(scope="module")
def guessed() -> Measures:
    cases, readings = random_cases(np.random.default_rng(2), 30)
    return evaluate(cases, readings)


def rows_of(markdown: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_markdown_has_every_measure_beside_guessing_and_the_paper(
    measured: Measures, guessed: Measures
) -> None:
    overall, averages, labels = sheets(measured, guessed)
    rows = rows_of(to_markdown([overall]))
    assert set(rows) == {"measure", "---", *(name for name, _ in ROWS)}
    assert {len(cells) for cells in rows.values()} == {4}
    one, guess = (some.value("accuracy", "published", "0.3") for some in (measured, guessed))
    model, interval, guessing, paper = rows["Accuracy@0.3, published"]
    assert (float(model), float(guessing)) == pytest.approx((one, guess), abs=5e-4)
    low, high = map(float, interval.split("–"))
    assert low <= float(model) <= high
    assert (paper, rows["Accuracy@0.5, published"][3]) == ("0.125", "0.081")
    assert rows["F1 by substring, macro"][3] == "0.600"
    assert "VinDr-CXR" in to_markdown([overall]) and "never comparable" in to_markdown([overall])
    assert len(averages.rows) == 2 * 3 * 4
    assert len(labels.rows) == 28


def test_what_is_not_computed_says_so(measured: Measures, guessed: Measures) -> None:
    shown = to_markdown(sheets(measured, guessed))
    for name, reason in measured.not_computed.items():
        assert f"{name} is not computed: {reason}" in shown
    assert ("not computed" in rows_of(shown)["METEOR"][0]) == ("METEOR" in measured.not_computed)


def test_a_terminal_of_80_columns_shows_all_of_it(measured: Measures, guessed: Measures) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_rich(sheets(measured, guessed)))
    text = console.export_text()
    assert "…" not in text
    for part in (*(name for name, _ in ROWS), "Mediastinal shift", "AP@0.5"):
        assert part in text


def test_json_nests_the_paths(measured: Measures, guessed: Measures) -> None:
    read = json.loads(to_json(measured, guessed))
    exact = read["scores"]["classification"]["exact"]["local"]["micro"]["f1"]
    one = measured.estimates["classification", "exact", "local", "micro", "f1"]
    assert exact == {"value": one.value, "low": one.low, "high": one.high}
    assert read["guessing"]["images"] == 30
    assert read["guessing"]["map"]["0.5"]["low"] is None
    assert read["paper"]["accuracy"]["published"] == {"0.3": 0.1254, "0.5": 0.0812}
