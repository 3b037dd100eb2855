"""The model that ships: trained, small, and far above chance on phantoms that it never saw.

The limits lie well below what docs/phantom-model.md reports, so that only a broken model fails.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from litegpt.engine import Engine
from litegpt.identity import model_folder
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from litegpt.vocabulary import NO_FINDING
from training.evaluation import Evaluation, Scores, evaluation, guessing, read_phantoms

IMAGES = 60
SEED = 60_221
LARGEST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("phantom", device="cpu")


@pytest.fixture(scope="module")
def measured(engine: Engine) -> tuple[Evaluation, Scores]:
    results = list(read_phantoms(engine, IMAGES, SEED))
    return evaluation(results), guessing([phantom for phantom, _ in results])


def test_it_names_findings_far_better_than_chance(measured: tuple[Evaluation, Scores]) -> None:
    model, guessed = measured
    assert guessed.local.micro < 0.25 and guessed.diagnoses.micro < 0.45
    assert model.scores.local.micro > 0.7
    assert model.scores.local.macro > 0.6
    assert model.scores.diagnoses.micro > 0.75


def test_its_boxes_are_far_better_than_chance(measured: tuple[Evaluation, Scores]) -> None:
    model, guessed = measured
    assert guessed.accuracy[0.3] < 0.15
    assert model.scores.accuracy[0.3] > 0.5
    assert model.scores.accuracy[0.5] > 0.35
    assert model.scores.precision[0.5] > 0.35


def test_it_tells_normal_from_abnormal(measured: tuple[Evaluation, Scores]) -> None:
    model, _ = measured
    assert model.scores.normal_as_normal > 0.75
    assert model.scores.abnormal_as_abnormal > 0.75


def test_its_answers_are_well_formed(measured: tuple[Evaluation, Scores]) -> None:
    assert measured[0].malformed_rate < 0.05


def test_it_reads_the_shipped_files_mostly_right(engine: Engine) -> None:
    """From DICOM files of every form, not from the generator's own arrays."""
    files = phantom_files()
    truth = {entry["file"]: entry for entry in json.loads((files[0].parent / "truth.json").read_text())}
    readings = engine.read([read_radiograph(file) for file in files])
    right = 0
    for file, reading in zip(files, readings, strict=True):
        said = {finding.label for finding in reading.findings if finding.box is None}
        right += (NO_FINDING in said) == (NO_FINDING in truth[file.name]["diagnoses"])
    assert right >= 7


def test_it_is_small_and_its_weights_are_half_precision() -> None:
    folder = model_folder("phantom")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES
    for path in files:
        if path.suffix == ".safetensors":
            assert {str(tensor.dtype) for tensor in load_file(path).values()} == {"torch.float16"}


def test_its_card_says_what_it_is() -> None:
    card = (model_folder("phantom") / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in card and "means nothing" in card
    assert "litegpt-train phantom-model" in card
    assert Path(model_folder("phantom") / "training_log.csv").is_file()
