"""Logs of training runs, in whatever columns they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from litegpt.identity import model_folder
from tests.training.datasets.reading import write
from training.errors import TrainingError
from training.report.curves import course, losses
from training.report.training_log import read_training_log, training_log


def test_losses_and_what_has_a_scale_of_its_own(tmp_path: Path) -> None:
    file = write(
        tmp_path / "log.csv",
        "step,images,seconds,rate,loss,dense,validation_loss,note",
        "1,8,0.5,0.001,2.0,1.5,,warm",
        "2,16,1.0,0.002,1.5,1.0,1.75,",
        "3,24,1.5,0.001,1.25,0.5,",
    )
    log = read_training_log(file)
    assert log.unit == "step" and log.progress.tolist() == [1, 2, 3]
    assert set(log.losses) == {"loss", "dense", "validation_loss"}
    assert set(log.others) == {"rate"}
    np.testing.assert_equal(log.losses["validation_loss"], [np.nan, 1.75, np.nan])
    assert "<svg" in losses(log, "a") and "<svg" in course(log, "rate", "b")


def test_stages_that_count_anew_follow_each_other(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", "stage,images,loss", "a,10,3", "a,20,2", "b,5,4", "b,10,1")
    log = read_training_log(file)
    assert log.progress.tolist() == [10, 20, 25, 30]
    assert list(log.stages) == [("a", 0.0), ("b", 20.0)]


def test_the_shipped_model_s_log_can_be_drawn() -> None:
    file = training_log(model_folder("phantom"))
    assert file is not None
    log = read_training_log(file)
    assert [stage for stage, _ in log.stages] == ["encoders", "pretraining", "grounding", "diagnosis"]
    assert "<svg" in losses(log, "a")


def test_rows_are_counted_where_nothing_else_tells(tmp_path: Path) -> None:
    log = read_training_log(write(tmp_path / "log.csv", "loss", "2", "1"))
    assert log.unit == "row" and log.progress.tolist() == [0, 1]
    assert "<svg" in losses(log, "a")


@pytest.mark.parametrize("lines", [(), ("loss",), ("loss", "none"), ("step,seconds", "1,2")])
def test_a_log_without_numbers_is_one_line(lines: tuple[str, ...], tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *lines)
    with pytest.raises(TrainingError, match="has no row of numbers to draw"):
        read_training_log(file)


def test_a_folder_without_a_log_has_none(tmp_path: Path) -> None:
    assert training_log(tmp_path) is None
