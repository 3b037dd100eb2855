"""A small study run as a person does, killed, and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.litegpt.tiny_models import save_tiny_model
from tests.training.evaluation.datasets import write_phantoms
from tests.waiting import wait_until
from training.cli import app
from training.errors import TrainingError
from training.evaluation.journal import read_readings

FEW = "batch_size: 4, validation_images: 2, checkpoint_every_steps: 1"
PLAN = f"""
title: Tiny
start: START
seeds: [0, 1]
examination: {{images: 2, seed: 3}}
rows:
  - {{name: start, question: before}}
  - name: one
    question: one stage
    stages: [{{recipe: phantom/grounding, values: {{steps_per_epoch: STEPS, {FEW}}}}}]
  - {{name: zeroed, question: does a dominate, of: one, zeroed: [0]}}
  - name: gone
    question: another dataset
    dataset: nih
    data: nowhere
    stages: [{{recipe: phantom/grounding}}]
  - name: broken
    question: a folder that holds no model
    start: BROKEN
    stages: [{{recipe: phantom/grounding}}]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "model")
    file = tmp_path / "study.yaml"
    (tmp_path / "broken").mkdir()
    places = {"START": tmp_path / "model", "BROKEN": tmp_path / "broken", "STEPS": 2}
    text = PLAN
    for word, value in places.items():
        text = text.replace(word, str(value))
    file.write_text(text)
    return file


def study(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def test_rows_are_run_compared_and_not_run_again(plan: Path, tmp_path: Path) -> None:
    out, document = tmp_path / "out", tmp_path / "d.md"
    document.write_text("<!-- study: begin --><!-- study: end -->")
    result = study(plan, "--out", out, "--document", document)
    assert result.exit_code == 1, result.output  # the row whose start is no model
    outcomes = json.loads((out / "study.json").read_text())["outcomes"]
    assert [(one["row"], one["seed"], bool(one["failure"])) for one in outcomes] == [
        (row, seed, row in ("gone", "broken"))
        for row in ("start", "one", "zeroed", "gone", "broken")
        for seed in (0, 1)
    ]
    assert "broken, seed 1, failed: " in document.read_text()
    assert "gone, seed 0, left out: nowhere is not there" in document.read_text()
    by_row = {one["row"]: one for one in outcomes}
    assert by_row["one"]["images"] == 8 and by_row["one"]["trained_parameters"] > 0
    assert by_row["start"]["images"] == by_row["zeroed"]["images"] == 0

    result_files = sorted(out.rglob("result.json"))
    times = [file.stat().st_mtime_ns for file in result_files]
    assert len(result_files) == 6
    listed = study(plan, "--out", out, "--list")
    assert "2/2  one: one stage" in listed.output and "0/2  gone: another dataset" in listed.output
    assert study(plan, "--out", out, "--only", "zeroed").exit_code == 0
    assert [file.stat().st_mtime_ns for file in result_files] == times
    assert study(plan, "--out", out, "--only", "gone").exit_code == 0  # left out is no fault


def test_results_of_another_factor_or_plan_are_not_mixed_in(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert study(plan, "--out", out, "--only", "start").exit_code == 0
    assert study(plan, "--out", out, "--only", "start", "--factor", 0.5).exit_code == 0  # it has no steps
    before = (out / "study.json").read_bytes()
    plan.write_text(plan.read_text().replace("images: 2, seed: 3", "images: 2, seed: 4"))
    refused = study(plan, "--out", out, "--only", "start")
    assert isinstance(refused.exception, TrainingError)
    assert "is of another plan or --factor" in str(refused.exception)
    assert (out / "study.json").read_bytes() == before


def test_models_can_be_measured_on_a_dataset_as_evaluate_does(plan: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "out", tmp_path / "images"
    place = f"examination: {{dataset: phantom, data: {images}, split: all}}"
    plan.write_text(plan.read_text().replace("examination: {images: 2, seed: 3}", place))
    refused = study(plan, "--out", out, "--only", "one")
    assert str(refused.exception) == f"examination: {images} is not there"
    assert not (out / "one").exists()  # nothing was learnt for nothing

    write_phantoms(images, 3)
    assert study(plan, "--out", out, "--only", "start").exit_code == 0
    words = ["evaluate", str(tmp_path / "model"), "phantom", str(images), "--split", "all", "--json"]
    evaluated = CliRunner().invoke(app, [*words, "--resamples", "0"])
    scores = json.loads(evaluated.stdout)["scores"]
    (one, _) = json.loads((out / "study.json").read_text())["outcomes"]
    assert one["figures"]["local F1"] == scores["classification"]["exact"]["local"]["macro"]["f1"]["value"]
    assert one["figures"]["Finding"] == scores["recall"]["Finding"]["value"]
    assert len(read_readings(out / "start" / "seed-0" / "readings")) == 3


def test_the_factor_scales_a_row_s_own_values_too(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert study(plan, "--out", out, "--only", "one", "--factor", 2).exit_code == 0
    outcomes = json.loads((out / "study.json").read_text())["outcomes"]
    assert [one["images"] for one in outcomes] == [16, 16]  # twice 2 steps of 4 images
    assert isinstance(study(plan, "--out", out, "--only", "one").exception, TrainingError)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_study_that_was_stopped_goes_on_at_its_checkpoint(
    sent: signal.Signals, code: int, plan: Path, tmp_path: Path
) -> None:
    plan.write_text(plan.read_text().replace("steps_per_epoch: 2", "steps_per_epoch: 20"))
    out = tmp_path / "out"
    command = ["study", str(plan), "--out", str(out), "--only", "one"]
    process = subprocess.Popen([sys.executable, "-m", "training.cli", *command])
    state = out / "one" / "seed-0" / "1-grounding" / "state.pt"
    try:
        wait_until(state.is_file, 120, "the first checkpoint", longest_pause_seconds=0.02)
    finally:
        process.send_signal(sent)
        ended = process.wait()
    assert ended == code
    assert not (out / "one" / "seed-1").exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    outcomes = json.loads((out / "study.json").read_text())["outcomes"]
    assert [(one["seed"], one["images"]) for one in outcomes] == [(0, 80), (1, 80)]
