"""Readings on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.identity import ModelIdentity
from tests.training.report.conftest import made_up
from training.errors import TrainingError
from training.evaluation.journal import Journal, Run, read_readings, run_of

RUN = Run(ModelIdentity("model", "1", demonstration=False), "abc", "NIH", "test", "boxes wbf")


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_readings_come_back_as_they_were(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("journal")
    written = made_up(seed, 4)
    with Journal(folder, RUN) as journal:
        for one in reversed(written):
            journal.add(one)
    assert read_readings(folder) == written
    with Journal(folder, RUN) as journal:
        assert list(journal.known.values()) == written


def test_a_line_that_was_not_ended_is_taken_away_and_of_two_the_last_counts(tmp_path: Path) -> None:
    first, second = made_up(0, 2)
    better = replace(first, file="elsewhere.dcm")
    with Journal(tmp_path, RUN) as journal:
        journal.add(first)
        journal.add(better)
    with (tmp_path / "readings.jsonl").open("a") as file:
        file.write('{"image_id": "image-001", "fi')
    with Journal(tmp_path, RUN) as journal:
        journal.add(second)
    assert read_readings(tmp_path) == [better, second]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(RUN, weights="def"), "with weights abc and not def"),
        (
            replace(RUN, model=ModelIdentity("model", "2", demonstration=False)),
            "with model model 1 and not model 2",
        ),
        (replace(RUN, truth="boxes first"), "with truth boxes wbf and not boxes first"),
    ],
)
def test_a_folder_of_another_run_is_refused(other: Run, words: str, tmp_path: Path) -> None:
    with Journal(tmp_path, RUN):
        pass
    with pytest.raises(TrainingError, match="choose another --out") as refused:
        Journal(tmp_path, other)
    assert words in str(refused.value)


def test_a_damaged_line_is_told_with_its_number(tmp_path: Path) -> None:
    with Journal(tmp_path, RUN) as journal:
        for one in made_up(0, 3):
            journal.add(one)
    file = tmp_path / "readings.jsonl"
    lines = file.read_text().splitlines()
    damaged = json.loads(lines[1])
    damaged["case"]["truth"]["boxes"] = [["ILD", {"x_min": 3, "y_min": 0, "x_max": 1, "y_max": 1}]]
    file.write_text("\n".join([lines[0], json.dumps(damaged), lines[2], ""]))
    with pytest.raises(TrainingError, match=r"readings\.jsonl:2: not a reading: case\.truth\.boxes"):
        read_readings(tmp_path)


def test_a_run_knows_its_weights() -> None:
    run = run_of("phantom", "NIH", "test", "boxes wbf")
    assert run.model.id == "litegpt-phantom" and len(run.weights) == 64
    assert run.warning is not None and RUN.warning is None
    assert replace(RUN, dataset="Phantoms").warning is not None
