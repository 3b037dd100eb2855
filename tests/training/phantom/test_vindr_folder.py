"""Phantoms in the shape of VinDr-CXR: what was drawn and read is what the reader of VinDr-CXR gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from litegpt.vocabulary import DIAGNOSES
from tests.training.datasets.reading import read
from tests.waiting import wait_until
from training.cli import app
from training.datasets.example import Example
from training.errors import TrainingError
from training.phantom.choice import TWELVE
from training.phantom.collection import Item, fresh_phantoms
from training.phantom.dicom import in_form
from training.phantom.vindr_folder import VindrFolder, splits

IMAGES, SEED = 20, 11


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vindr")
    placed = zip(fresh_phantoms(IMAGES, SEED), splits(IMAGES, 0.5, SEED), strict=True)
    list(VindrFolder(folder, SEED).write(placed))
    return folder


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images, all of them in train."""
    folder = tmp_path_factory.mktemp("unsplit")
    list(VindrFolder(folder, SEED).write((item, "train") for item in fresh_phantoms(IMAGES, SEED)))
    return folder


def items(split: str) -> list[Item]:
    placed = zip(fresh_phantoms(IMAGES, SEED), splits(IMAGES, 0.5, SEED), strict=True)
    return [item for item, its in placed if its == split]


def examples(folder: Path, split: str) -> list[Example]:
    found, problems = read("vindr-cxr", folder)
    assert {kind for kind, *_ in problems} <= {"readers-disagree"}
    return [example for example in found if example.split == split]


LOCAL = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,"
    "Emphysema,Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,"
    "Pleural effusion,Pleural thickening,Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion"
)
"""As VinDr-CXR orders and spells them."""


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("annotations_train", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"),
        ("annotations_test", "image_id,class_name,x_min,y_min,x_max,y_max"),
        (
            "image_labels_train",
            f"image_id,rad_id,{LOCAL},COPD,Lung tumor,Pneumonia,Tuberculosis,Other diseases,No finding",
        ),
        (
            "image_labels_test",
            f"image_id,{LOCAL},COPD,Lung tumor,Pneumonia,Tuberculosis,Other disease,No finding",
        ),
    ],
)
def test_the_columns_are_vindr_cxr_s(name: str, columns: str, written: Path) -> None:
    header, *rows = (written / f"{name}.csv").read_text("utf-8").splitlines()
    assert header == columns
    assert {row.count(",") for row in rows} == {columns.count(",")}
    if name == "image_labels_train":
        assert [row.split(",")[1] for row in rows] == ["R1", "R2", "R3"] * 10


def test_the_test_split_s_consensus_is_what_was_drawn(written: Path) -> None:
    found = examples(written, "test")
    assert len(found) == 10
    for example, item in zip(found, items("test"), strict=True):
        assert example.image_id == Path(item.file_name).stem
        assert example.said == {*item.phantom.diagnoses, *(f.label for f in item.phantom.findings)}
        assert len(example.findings) == len(item.phantom.findings)
        for marked, drawn in zip(example.findings, item.phantom.findings, strict=True):
            box = in_form(drawn.box, item.phantom, item.form)
            assert marked.label == drawn.label
            for corner in ("x_min", "y_min", "x_max", "y_max"):
                assert getattr(marked.box, corner) == pytest.approx(getattr(box, corner), abs=0.006)


def test_the_train_split_has_three_readers(written: Path) -> None:
    found = examples(written, "train")
    assert len(found) == 10
    for example, item in zip(found, items("train"), strict=True):
        assert set(example.labels) == {"R1", "R2", "R3"}
        assert example.image is not None
        dataset = dcmread(example.image)
        assert (dataset.Rows, dataset.Columns) == (item.form.rows, item.form.columns)
        for marked in example.findings:
            assert marked.box.clipped(item.form.columns, item.form.rows) == marked.box


def test_a_seed_gives_the_same_folder_and_another_seed_another(written: Path, tmp_path: Path) -> None:
    def again(name: str, seed: int) -> dict[str, bytes]:
        placed = zip(fresh_phantoms(IMAGES, seed), splits(IMAGES, 0.5, seed), strict=True)
        list(VindrFolder(tmp_path / name, seed).write(placed))
        return contents(tmp_path / name)

    assert again("same", SEED) == contents(written)
    other = again("other", SEED + 1)
    assert other.keys() & contents(written).keys() == {path.name for path in written.iterdir() if path.suffix}


def test_a_reader_errs_anew_in_every_image(unsplit: Path) -> None:
    """How far the first box is off, as parts of its size: the same in all, were chance the same in all."""
    errors = []
    for example, item in zip(examples(unsplit, "train"), fresh_phantoms(IMAGES, SEED), strict=True):
        first = next((finding for finding in example.findings if finding.reader == "R1"), None)
        if first is not None and item.phantom.findings:
            box = in_form(item.phantom.findings[0].box, item.phantom, item.form)
            across = (first.box.x_min - box.x_min) / (box.x_max - box.x_min)
            down = (first.box.y_min - box.y_min) / (box.y_max - box.y_min)
            errors.append((round(across, 2), round(down, 2)))
    assert len(errors) > 5 and len(set(errors)) == len(errors)


def test_readers_say_the_same_of_an_image_in_whatever_split_others_are(written: Path, unsplit: Path) -> None:
    said = {example.image_id: (example.findings, example.labels) for example in examples(unsplit, "train")}
    for example in examples(written, "train"):
        assert said[example.image_id] == (example.findings, example.labels)


def test_the_same_folder_is_read_as_phantoms(written: Path) -> None:
    found, problems = read("phantom", written)
    assert problems == [] and len(found) == IMAGES
    assert all(example.image is not None and example.image.is_file() for example in found)


@pytest.mark.parametrize(("share", "in_test"), [(0, 0), (0.2, 20), (1, 100)])
def test_the_share_of_the_test_split_is_kept(share: float, in_test: int) -> None:
    assert splits(100, share, 1).count("test") == in_test
    assert splits(100, share, 1) == splits(100, share, 1)


def test_a_folder_of_test_images_alone_has_no_train_files(tmp_path: Path) -> None:
    list(VindrFolder(tmp_path, 1).write(zip(fresh_phantoms(2, 1), splits(2, 1, 1), strict=True)))
    assert not (tmp_path / "train").exists() and not (tmp_path / "annotations_train.csv").exists()
    assert len(examples(tmp_path, "test")) == 2


def test_what_the_command_writes_is_inspected_without_a_problem_and_evaluated(tmp_path: Path) -> None:
    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.stdout

    out = tmp_path / "phantoms"
    run("phantom", "--images", 9, "--seed", 31, "--labels", 12, "--test-share", 0.34, "--out", out)
    found = json.loads(run("inspect", "vindr-cxr", out, "--open-images", "--strict", "--json"))
    assert found["problems"].keys() <= {"readers-disagree"}
    on_test = ("vindr-cxr", out, "--split", "test", "--resamples", 0, "--json")
    scores = json.loads(run("evaluate", "phantom", *on_test))["scores"]
    drawn = [
        item.phantom
        for item, split in zip(fresh_phantoms(9, 31, drawn_labels=TWELVE), splits(9, 0.34, 31), strict=True)
        if split == "test"
    ]
    assert scores["images"] == len(drawn) == 3
    for label in (*TWELVE, *DIAGNOSES):
        labels = [{*one.diagnoses, *(finding.label for finding in one.findings)} for one in drawn]
        assert scores["support"][label] == sum(label in some for some in labels)


@pytest.mark.parametrize("second", ["vindr", "flat"])
@pytest.mark.parametrize("first", ["vindr", "flat"])
def test_a_second_set_does_not_mix_with_a_first(first: str, second: str, tmp_path: Path) -> None:
    words = ["phantom", "--images", "3", "--seed", "1", "--out", str(tmp_path), "--layout"]
    assert CliRunner().invoke(app, [*words, first]).exit_code == 0
    before = contents(tmp_path)
    # Another share would put the same images into the other split
    error = CliRunner().invoke(app, [*words, second, "--test-share", "1"]).exception
    assert isinstance(error, TrainingError) and f"{tmp_path} is not empty" in str(error)
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ctrl_c_leaves_a_smaller_set_that_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.cli", "phantom", "--images", "5000", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"}
    ) as run:
        try:
            wait_until(lambda: len(list(tmp_path.glob("train/*.dicom"))) > 2, 120, "the first images")
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode == 130
    images = list(tmp_path.glob("*/*.dicom"))
    assert f"stopped: {len(images)} of 5,000 images are in" in said.replace("\n", " ")
    found, problems = read("vindr-cxr", tmp_path)
    assert len(found) == len(images) < 5000
    assert {kind for kind, *_ in problems} <= {"readers-disagree"}
    assert not list(tmp_path.rglob("*.unfinished"))
