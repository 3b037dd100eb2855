"""``litegpt-train`` as a person calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from litegpt.checksums import verify_checksums
from litegpt.cli import app as litegpt
from litegpt.identity import model_folder
from litegpt.model_config import read_config
from litegpt.phantoms import phantom_files
from litegpt.vocabulary import LABELS
from tests.litegpt.tiny_models import save_tiny_model
from training.cli import app, main
from training.errors import TrainingError
from training.phantom.choice import TWELVE

runner = CliRunner()


def train(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def test_phantom_writes_as_many_files_as_asked(tmp_path: Path) -> None:
    result = train("phantom", "--images", 3, "--seed", 7, "--layout", "flat", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"phantom-7-{number:05d}.dcm" for number in (1, 2, 3)), "truth.json"]


def test_phantom_writes_what_inspect_reads_as_vindr_cxr(tmp_path: Path) -> None:
    result = train("phantom", "--images", 10, "--seed", 7, "--test-share", 0.3, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "3 readers of 7 images" in result.stdout
    assert len(list(tmp_path.glob("train/*.dicom"))) == 7 and len(list(tmp_path.glob("test/*.dicom"))) == 3
    shape = json.loads(train("inspect", "vindr-cxr", tmp_path, "--json", "--strict").stdout)
    assert shape["images"] == 10
    assert train("inspect", "phantom", tmp_path, "--strict").exit_code == 0


def test_phantoms_of_the_twelve_have_no_others(tmp_path: Path) -> None:
    train("phantom", "--images", 30, "--labels", "12", "--layout", "flat", "--out", tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert {finding["label"] for image in truth for finding in image["findings"]} <= set(TWELVE)


def test_evaluate_and_calibrate_say_which_phantoms_they_measured_on(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    result = train(
        "evaluate", tmp_path / "model", "--images", 2, "--labels", "22", "--resamples", 0, "--json"
    )
    support = json.loads(result.stdout)["scores"]["support"]
    assert list(support) == list(LABELS)
    result = train("evaluate", tmp_path / "model", "phantom", tmp_path, "--labels", "22")
    assert result.exit_code == 2 and "--labels is for fresh phantoms" in result.output


def test_the_sheet_has_a_panel_for_every_finding(tmp_path: Path) -> None:
    assert train("phantom-sheet", "--out", tmp_path / "sheet.png").exit_code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 224, 4 * (224 + 22))  # 22 panels in rows of 6


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


def test_calibrate_writes_a_copy_with_an_operating_point_and_a_version_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = read_config(model_folder("phantom"))
    result = train("calibrate", "phantom", "--images", 12, "--seed", 5, "--version", "test", "--out", out)
    assert result.exit_code == 0, result.output
    after = read_config(out)
    assert read_config(model_folder("phantom")) == before
    assert after.identity == replace(before.identity, version="test")
    point = after.operating_point
    assert point is not None and point.measured_on == "12 phantoms of seed 5 with 22 findings"
    verify_checksums(out)
    for part in ("ECE before", "ECE after", "findings with boxes", "diagnoses", "Cardiomegaly", "below"):
        assert part in result.stdout
    described = runner.invoke(litegpt, ["describe", str(out)], env={"COLUMNS": "160"}).stdout
    assert "operating point of version test, measured on 12 phantoms of seed 5 with 22 findings" in described
    for calibration in (point.findings, point.diagnoses):
        assert f"{calibration.ece_before:.3f}" in described and calibration.method in described
    again = train("calibrate", out, "--images", 12, "--seed", 5, "--version", "again")
    assert again.exit_code == 0, again.output
    # In place, from raw scores: the same phantoms give the same operating point.
    assert read_config(out).operating_point == replace(point, version="again")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--version", "1"], "is version 1 already: thresholds need a version of their own"),
        (["--version", "2", "--seed", "999"], "seed 999 is for tests"),
        (["--version", "2", "--seed", "31337"], "seed 31337 is for tests"),
        (["--version", "2", "--out", "."], "is there already"),
    ],
)
def test_calibrate_refuses_what_would_mislead(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    result = train("calibrate", tmp_path, *arguments)
    assert isinstance(result.exception, TrainingError)
    assert complaint in str(result.exception)
    assert read_config(tmp_path).identity.version == "1"


def test_a_wrong_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["litegpt-train", "evaluate", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().endswith("is not a model folder: it has no config.json")


@pytest.mark.parametrize(
    "command",
    [
        "phantom",
        "phantom-sheet",
        "samples",
        "phantom-model",
        "pretrain",
        "grounding",
        "diagnosis",
        "evaluate",
        "calibrate",
    ],
)
def test_every_command_s_help_has_an_example(command: str) -> None:
    assert f"Example: litegpt-train {command}" in train(command, "--help").stdout
