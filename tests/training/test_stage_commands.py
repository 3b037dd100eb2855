"""Training as a person calls it: stopped by Ctrl-C, gone on with, refused in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from litegpt.errors import LiteGPTError
from litegpt.model_folder import LiteGPT
from tests.litegpt.tiny_models import save_tiny_model
from tests.waiting import wait_until
from training.cli import app
from training.errors import TrainingError
from training.run_folder import RunFolder

COMMAND = [sys.executable, "-m", "training.cli"]


def refusal(*arguments: object) -> str:
    """What the command line would print in one line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, (TrainingError, LiteGPTError)), result.output
    return str(result.exception)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_and_the_same_command_goes_on(tmp_path: Path, signal_number: signal.Signals) -> None:
    save_tiny_model(tmp_path / "start")
    run = tmp_path / "run"
    few = ("--set", "batch_size=4", "--set", "validation_images=4", "--set", "checkpoint_every_steps=100000")
    arguments = (
        "grounding",
        "--from",
        tmp_path / "start",
        "--out",
        run,
        "--device",
        "cpu",
        "--threads",
        1,
        *few,
    )
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--set", "steps_per_epoch=5000"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        log = run / "log.csv"
        wait_until(lambda: log.is_file() and "\n20," in log.read_text(), 120, "the log's first row")
        os.killpg(process.pid, signal_number)  # to its workers too, as a terminal or a scheduler does
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Stopped; all is saved: the same command with --resume goes on." in errors
    state = RunFolder(run).state()
    assert state is not None and state.step >= 20
    LiteGPT.from_pretrained(run / "last")

    assert "--resume goes on with it, or choose another --out" in refusal(*arguments)
    other = refusal(*arguments, "--set", "steps_per_epoch=4999", "--resume")
    assert "holds a run of another recipe: steps_per_epoch differ" in other


def test_faults_are_one_line(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    there = ("--from", tmp_path / "start", "--out", tmp_path / "run", "--device", "cpu")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.txt").write_text("kept")
    for arguments, words in (
        (("grounding", *there, "--config", "paper/non"), "there is no recipe paper/non"),
        (("grounding", *there, "--set", "speed"), "--set speed: write NAME=VALUE"),
        (
            ("grounding", *there, "--set", "optimiser.peak=-1"),
            "optimiser.peak: Input should be greater than 0",
        ),
        (("pretrain", *there), "has an adapter already"),
        (("grounding", "--from", tmp_path / "files", "--out", tmp_path / "run2"), "config.json"),
        (
            ("grounding", "--from", tmp_path / "start", "--out", tmp_path / "files", "--device", "cpu"),
            "is there and holds no run",
        ),
    ):
        said = refusal(*arguments)
        assert words in said and "\n" not in said
    process = subprocess.run(
        [*COMMAND, "grounding", *map(str, there), "--set", "speed"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2
    assert process.stderr == "litegpt-train: --set speed: write NAME=VALUE, as optimiser.peak=1e-4\n"
