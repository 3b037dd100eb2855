"""``litegpt predict`` as a person calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from pydicom import dcmread
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner, Result

from litegpt.boxes import Box
from litegpt.cli import app, main
from litegpt.convert import Shapes
from litegpt.description import PUBLISHED_PARAMETERS
from litegpt.engine import Read
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity
from litegpt.model_folder import LiteGPT
from litegpt.phantoms import phantom_files
from litegpt.squares import SquashedImage
from litegpt.vocabulary import LABELS
from tests.litegpt.test_convert import minigpt_v2
from tests.litegpt.test_operating_point import POINT
from tests.litegpt.tiny_models import save_tiny_model

runner = CliRunner()


def predict(*arguments: object) -> Result:
    return runner.invoke(app, ["predict", *map(str, arguments)], env={"COLUMNS": "160"})


def test_prints_a_line_of_json_an_image() -> None:
    files = phantom_files()[:3]
    result = predict(*files, "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    for line, file in zip(lines, files, strict=True):
        dataset = dcmread(file, stop_before_pixels=True)
        assert (line["rows"], line["columns"]) == (dataset.Rows, dataset.Columns)
        assert line["model"]["demonstration"] is True
        assert line["findings"]
        for finding in line["findings"]:
            assert finding["label"] in LABELS and 0 <= finding["score"] <= 1
            if finding["box"] is not None:
                left, top, right, bottom = finding["box"]
                assert 0 <= left < right <= dataset.Columns and 0 <= top < bottom <= dataset.Rows


def test_prints_a_table_and_says_that_it_is_a_demonstration() -> None:
    result = predict(phantom_files()[0])
    assert result.exit_code == 0, result.output
    assert phantom_files()[0].name in result.stdout
    assert "means nothing" in result.stderr


class _Calibrated:
    """An engine that says the same of every image, one finding of it below its threshold."""

    identity = ModelIdentity("calibrated", "1", demonstration=False)
    square_sizes = (16,)

    def read_ahead(
        self, files: Sequence[Path], load: Callable[[Path], SquashedImage], *, candidates: bool
    ) -> Iterator[Read[Path]]:
        findings = (
            Finding("Cardiomegaly", 0.912345, Box(40, 90, 140, 190), 0.00123456),
            Finding("Rib fracture", 0.1, Box(20, 20, 60, 60), 0.2, reported=False),
            Finding("COPD", 0.5),
        )
        scores = {"COPD": 0.5, "Edema": 0.0000123456}
        possible = (Finding("Edema", 0.02, Box(1, 2, 3, 4), 0.1),) if candidates else ()
        for file in files:
            load(file)
            yield Read(file, Reading(findings, {}, label_scores=scores, candidates=possible, calibrated=True))


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litegpt.cli._engine", lambda *_: _Calibrated())


def test_json_tells_how_sure_of_the_box_and_what_is_not_reported(calibrated: None) -> None:
    (line,) = predict(phantom_files()[0], "--json").stdout.splitlines()
    told = json.loads(line)
    assert told["findings"][:2] == [
        {
            "label": "Cardiomegaly",
            "score": 0.9123,
            "box": [40, 90, 140, 190],
            "box_score": 0.001235,
            "reported": True,
        },
        {"label": "Rib fracture", "score": 0.1, "box": [20, 20, 60, 60], "box_score": 0.2, "reported": False},
    ]
    assert told["findings"][2]["box_score"] is None
    assert told["label_scores"] == {"COPD": 0.5, "Edema": 0.00001235}
    assert told["calibrated"] is True
    assert "candidates" not in told


def test_candidates_are_told_where_they_are_asked_for(calibrated: None) -> None:
    (line,) = predict(phantom_files()[0], "--json", "--candidates").stdout.splitlines()
    (candidate,) = json.loads(line)["candidates"]
    assert (candidate["label"], candidate["score"], candidate["box"]) == ("Edema", 0.02, [1, 2, 3, 4])


def test_the_table_marks_what_is_not_reported(calibrated: None) -> None:
    lines = predict(phantom_files()[0]).stdout.splitlines()
    marked = [line for line in lines if "below threshold" in line]
    assert len(marked) == 1 and "Rib fracture" in marked[0] and "0.10" in marked[0]
    assert any("Cardiomegaly" in line and "0.91" in line for line in lines)


def test_describe_prints_thresholds_and_how_they_were_measured(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    described = runner.invoke(app, ["describe", str(tmp_path)], env={"COLUMNS": "160"}).stdout
    assert "no operating point: scores are the model's own, and every finding is reported" in described
    values = json.loads((tmp_path / "config.json").read_text())
    point = replace(
        POINT, version="1", thresholds={"ILD": 0.41, "Edema": 0.37, "COPD": 0.0}, pooled=("Edema",)
    )
    (tmp_path / "config.json").write_text(json.dumps({**values, "operating_point": point.to_json()}))
    described = runner.invoke(app, ["describe", str(tmp_path)], env={"COLUMNS": "160"}).stdout
    assert "operating point of version 1, measured on 100 images by hand" in described
    rows = {
        cells[1].strip(): cells[2:-1] for line in described.splitlines() if (cells := line.split("│"))[1:]
    }
    assert [cell.strip() for cell in rows["findings with boxes"]] == [
        "by hand",
        "100",
        "60",
        "0.200",
        "0.010",
    ]
    assert [rows[label][0].strip() for label in ("ILD", "Edema", "COPD")] == ["0.41", "0.37 *", "always"]
    assert "* too few examples of its own" in described


def test_draws_a_picture_an_image_also_where_names_are_the_same(tmp_path: Path) -> None:
    source = phantom_files()[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "image.dcm").write_bytes(source.read_bytes())
    result = predict(tmp_path / "a", tmp_path / "b", "--overlay", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["image-2.png", "image.png"]
    dataset = dcmread(source, stop_before_pixels=True)
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (dataset.Columns, dataset.Rows)


def test_what_cannot_be_read_is_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.dcm", tmp_path / "missing.dcm"
    broken.write_bytes(b"no DICOM at all")
    good = phantom_files()[0]
    result = predict(broken, good, missing, "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(good)]
    complaints = [line for line in result.stderr.splitlines() if ".dcm: " in line]
    assert [complaint.split(": ")[0] for complaint in complaints] == [str(broken), str(missing)]
    assert "Traceback" not in result.stderr


def test_of_a_folder_only_dicom_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "image").write_bytes(phantom_files()[0].read_bytes())
    result = predict(tmp_path, "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [
        str(tmp_path / "deep" / "image")
    ]


def test_a_folder_that_is_no_model_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["litegpt", "predict", str(phantom_files()[0]), "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message == f"litegpt: {tmp_path} is not a model folder: it has no config.json"


def test_help_has_an_example() -> None:
    assert "Example: litegpt predict" in runner.invoke(app, ["predict", "--help"]).stdout


def test_describe_counts_what_is_there() -> None:
    result = runner.invoke(app, ["describe", "phantom"], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    loaded = LiteGPT.from_pretrained("phantom").model
    total = sum(parameter.numel() for parameter in loaded.parameters())
    for part in (*loaded.encoders, loaded.projection, loaded.language_model):
        assert f"{sum(parameter.numel() for parameter in part.parameters()):,}" in result.stdout
    assert f"fp32 {total * 4 / 2**20:,.0f} MiB, bf16 {total * 2 / 2**20:,.0f} MiB" in result.stdout
    assert "a demonstration" in result.stdout and "not counted" not in result.stdout


def test_describe_knows_the_size_of_what_the_paper_names() -> None:
    with torch.device("meta"):
        trunk = timm.create_model("vit_base_patch16_224", num_classes=0)
        tower, llama = CLIPVisionModel(CLIPVisionConfig()), LlamaForCausalLM(LlamaConfig())
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in (trunk, tower, llama)]
    assert list(PUBLISHED_PARAMETERS.values()) == counts


def test_describe_of_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / "projection.safetensors").write_bytes(b"broken")
    result = runner.invoke(app, ["describe", str(tmp_path)])
    assert isinstance(result.exception, ModelError)
    assert "projection.safetensors cannot be read" in str(result.exception)


def test_convert_prints_the_mapping_and_says_loudly_what_is_random(tmp_path: Path) -> None:
    torch.save({"model": minigpt_v2(Shapes())}, tmp_path / "checkpoint.pth")
    arguments = ["convert", tmp_path / "checkpoint.pth", tmp_path / "out", "--pubmedclip", "/models/pubmed"]
    result = runner.invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "llama_proj.weight -> fc2.weight" in result.stdout
    assert sum(" -> " in line for line in result.stdout.splitlines()) == 130
    assert "AT RANDOM" in result.stderr
    shown = runner.invoke(app, ["describe", str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert "litegpt 1, a demonstration, preset paper" in shown.stdout
    for text in ("44,705,280", "33,554,432", "6,738,415,616", "/models/pubmed", "not counted: encoder b"):
        assert text in shown.stdout
    (tmp_path / "checkpoint.pth").unlink()
