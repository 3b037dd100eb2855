"""``litegpt-train`` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from litegpt.phantoms import phantom_files
from tests.litegpt.tiny_models import save_tiny_model
from training.cli import app, main

runner = CliRunner()


def train(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def test_phantom_writes_as_many_files_as_asked(tmp_path: Path) -> None:
    result = train("phantom", "--images", 3, "--seed", 7, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"phantom-7-{number:05d}.dcm" for number in (1, 2, 3)), "truth.json"]


def test_samples_writes_the_shipped_names(tmp_path: Path) -> None:
    assert train("samples", "--out", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.dcm")) == [path.name for path in phantom_files()]


def test_evaluate_prints_json_and_tables(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    few = ("evaluate", tmp_path / "model", "--images", 3)
    result = train(*few, "--resamples", 4, "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert measured["scores"]["images"] == measured["guessing"]["images"] == 3
    assert measured["scores"]["recall"]["No finding"]["low"] is not None
    table = train(*few, "--resamples", 0).stdout
    markdown = train(*few, "--resamples", 0, "--markdown").stdout
    for part in ("Accuracy@0.5", "local F1, macro", "malformed", "Cardiomegaly", "guessing"):
        assert part in table and part in markdown
    assert "| local F1, macro |" in markdown


def test_evaluate_prints_one_form_at_a_time() -> None:
    result = train("evaluate", "phantom", "--json", "--markdown")
    assert result.exit_code == 2
    assert "--json or --markdown, not both" in result.output


def test_a_stage_goes_from_folder_to_folder(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    result = train("grounding", "--from", tmp_path / "start", "--out", tmp_path / "end", "--factor", 0)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "end" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_wrong_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["litegpt-train", "evaluate", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().endswith("is not a model folder: it has no config.json")


@pytest.mark.parametrize(
    "command", ["phantom", "samples", "phantom-model", "pretrain", "grounding", "diagnosis", "evaluate"]
)
def test_every_command_s_help_has_an_example(command: str) -> None:
    assert f"Example: litegpt-train {command}" in train(command, "--help").stdout
