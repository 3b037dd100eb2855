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
from training.evaluation.classification import FINDING
from training.evaluation.measures import Measures
from training.evaluation.phantoms import evaluation, guessing, read_phantoms

IMAGES = 60
SEED = 60_221
LARGEST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("phantom", device="cpu")


@pytest.fixture(scope="module")
def measured(engine: Engine) -> tuple[Measures, Measures]:
    results = list(read_phantoms(engine, IMAGES, SEED))
    return evaluation(results), guessing([phantom for phantom, _ in results])


def value(measures: Measures, *path: str) -> float:
    found = measures.value(*path)
    assert found is not None
    return found


def f1(measures: Measures, mode: str, average: str) -> float:
    return value(measures, "classification", "exact", mode, average, "f1")


def test_it_names_findings_far_better_than_chance(measured: tuple[Measures, Measures]) -> None:
    model, guessed = measured
    assert f1(guessed, "local", "micro") < 0.25 and f1(guessed, "diagnoses", "micro") < 0.45
    assert f1(model, "local", "micro") > 0.85
    assert f1(model, "local", "macro") > 0.75
    assert f1(model, "diagnoses", "micro") > 0.85


def test_its_boxes_are_far_better_than_chance(measured: tuple[Measures, Measures]) -> None:
    model, guessed = measured
    assert value(guessed, "accuracy", "plain", "0.3") < 0.15
    assert value(model, "accuracy", "plain", "0.3") > 0.8
    assert value(model, "accuracy", "plain", "0.5") > 0.7
    assert value(model, "box precision", "0.5") > 0.7


def test_it_tells_normal_from_abnormal(measured: tuple[Measures, Measures]) -> None:
    model, _ = measured
    assert value(model, "recall", NO_FINDING) > 0.85
    assert value(model, "recall", FINDING) > 0.85


def test_its_answers_are_well_formed(measured: tuple[Measures, Measures]) -> None:
    assert value(measured[0], "answers", "malformed pieces") < 0.05


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
