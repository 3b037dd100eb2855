"""``litegpt-train inspect`` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from litegpt.phantoms import phantom_files
from tests.training.datasets.reading import touch, write
from training.cli import app, main
from training.datasets.catalogue import DATASETS
from training.inspect_command import DatasetName

runner = CliRunner()

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def inspect(*arguments: object) -> Result:
    return runner.invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "120"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: one normal, one abnormal, one that the readers disagree on; two problems more."""
    write(
        tmp_path / "train.csv",
        HEADER,
        "a,No finding,14,R1,,,,",
        "a,No finding,14,R2,,,,",
        "b,ILD,5,R1,1,2,3,4",
        "b,ILD,5,R1,3,2,1,5",
        "b,Atelectasis,1,R2,1,2,3,4",
        "c,No finding,14,R2,,,,",
        "c,Atelectasis,1,R1,1,2,1,4",
    )
    return tmp_path


def test_json_counts_what_is_there(folder: Path) -> None:
    result = inspect("vinbigdata", folder, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    problems = found.pop("problems")
    assert found == {
        "dataset": "vinbigdata",
        "path": str(folder),
        "images": 3,
        "image_files": 0,
        "patients": 3,
        "boxes": 3,
        "rows": {f"{folder}/train.csv": 7},
        "readers": {"R1": 3, "R2": 3},
        "readers_per_image": {"2": 3},
        "splits": {"train": 3},
        "images_without_finding": 1,
        "images_without_label": 0,
        "labels": {
            "Atelectasis": {"images": 2, "boxes": 1},
            "ILD": {"images": 1, "boxes": 2},
            "No finding": {"images": 2, "boxes": 0},
        },
    }
    assert {kind: problem["count"] for kind, problem in problems.items()} == {
        "box-empty": 1,
        "box-reversed": 1,
        "readers-disagree": 1,
    }
    assert problems["box-reversed"] == {
        "count": 1,
        "treatment": "repaired",
        "rule": "the corners are put in order",
        "first": [
            {
                "file": f"{folder}/train.csv",
                "line": 5,
                "column": "x_max",
                "words": "(3, 2, 1, 5) has reversed corners",
            }
        ],
    }


def test_tables_for_a_person(folder: Path) -> None:
    result = inspect("vinbigdata", folder)
    assert result.exit_code == 0, result.output
    for said in (
        "VinBigData (Kaggle)",
        "none beside the annotations",
        "the corners are put in order",
        f"  {folder}/train.csv:5: x_max: (3, 2, 1, 5) has reversed corners\n",
    ):
        assert said in result.stdout


def test_problems_are_listed_up_to_a_number(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, *(f"{number},Gout,0,R1,1,2,3,4" for number in range(5)))
    for show, lines, more in ((1, 1, "  and 4 more"), (0, 5, None), (9, 5, None)):
        result = inspect("vinbigdata", tmp_path, "--show", show)
        assert result.stdout.count("no label of this dataset: 'Gout'") == lines
        assert (more or "more\n") in result.stdout if more else "more\n" not in result.stdout
    assert (
        json.loads(inspect("vinbigdata", tmp_path, "--json").stdout)["problems"]["unknown-class"]["count"]
        == 5
    )


def test_strict_fails_where_something_was_refused(folder: Path) -> None:
    assert inspect("vinbigdata", folder, "--strict").exit_code == 1
    write(folder / "train.csv", HEADER, "a,ILD,5,R1,3,2,1,4")
    assert inspect("vinbigdata", folder, "--strict").exit_code == 0


def test_images_are_opened_on_request(folder: Path) -> None:
    for name in ("a", "b", "c"):
        touch(folder / "train" / f"{name}.dicom")
    assert json.loads(inspect("vinbigdata", folder, "--json").stdout)["image_files"] == 3
    opened = json.loads(inspect("vinbigdata", folder, "--json", "--open-images").stdout)
    assert opened["images"] == 0
    assert opened["problems"]["unreadable-image"]["count"] == 3


def test_the_shipped_phantoms_have_no_problem() -> None:
    result = inspect("phantom", phantom_files()[0].parent, "--open-images")
    assert result.exit_code == 0, result.output
    assert "No problems." in result.stdout


def test_what_cannot_be_read_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["litegpt-train", "inspect", "rsna", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"litegpt-train: {tmp_path}: there is no stage_2_train_labels.csv"


def test_an_unknown_dataset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    result = inspect("chexpert", tmp_path)
    assert result.exit_code == 2
    assert "mimic-cxr" in result.output


def test_the_command_knows_every_dataset() -> None:
    assert [name.value for name in DatasetName] == list(DATASETS)


def test_the_help_has_an_example() -> None:
    assert "Example: litegpt-train inspect" in inspect("--help").stdout
