"""An operating point measured on readings whose truth is known, and written into a model's folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.engine import Engine
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.model_config import read_config
from litegpt.model_folder import LiteGPT
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from tests.litegpt.tiny_models import save_tiny_model
from tests.training.recipes import ignore, short
from training.errors import TrainingError
from training.evaluation.statements import Statement
from training.operating_point import (
    Result,
    below_thresholds,
    measure_operating_point,
    write_operating_point,
)
from training.stage import train_stage

TRUE_BOX = Box(0, 0, 10, 10)
HALF = Box(0, 0, 10, 5)
"""IoU with ``TRUE_BOX``: exactly 0.5, which is enough."""
ELSEWHERE = Box(0, 0, 10, 4.9)


def results(count: int = 300, *, label_scores: bool = False) -> list[Result]:
    """Images with one true nodule each. The model says one of a score that is ten times too low, with its box
    right as often as ten times the score says; and pneumonia, right as often as half of what it says."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(count):
        right, ill = rng.uniform(0, 1), rng.uniform(0, 1)
        box = HALF if rng.random() < right else ELSEWHERE
        diagnosis = "Pneumonia" if rng.random() < ill / 2 else NO_FINDING
        scores = dict.fromkeys(LABELS, 1e-6) | {"Nodule/Mass": 0.5, "Pneumonia": ill}
        findings = (Finding("Nodule/Mass", 0.5, box, right / 5), Finding("Pneumonia", ill))
        reading = Reading(findings, label_scores=scores if label_scores else {})
        made.append((Statement((("Nodule/Mass", TRUE_BOX),), frozenset({diagnosis})), reading))
    return made


def test_scores_become_what_they_are_worth() -> None:
    point = measure_operating_point(results(2000), version="2", measured_on="images by hand")
    for raw in (0.02, 0.05, 0.08):
        assert point.findings(raw) == pytest.approx(10 * raw, abs=0.07)
    for raw in (0.2, 0.5, 0.8):
        assert point.diagnoses(raw) == pytest.approx(raw / 2, abs=0.07)
    assert (point.images, point.findings.examples, point.diagnoses.examples) == (2000, 2000, 2000)
    assert point.local_labels is None
    assert point.findings.ece_before == pytest.approx(0.45, abs=0.02)
    assert point.findings.ece_after < 0.04


def test_label_scores_are_calibrated_where_there_are_any_for_labels_that_occur() -> None:
    point = measure_operating_point(results(label_scores=True), version="2", measured_on="images by hand")
    assert point.local_labels is not None
    assert (point.local_labels.examples, point.local_labels.right) == (300, 300)  # the nodule alone
    assert point.diagnoses.examples == 600  # pneumonia and no finding


def test_every_label_but_no_finding_has_a_threshold_its_own_where_it_can() -> None:
    point = measure_operating_point(results(), version="2", measured_on="images by hand")
    assert set(point.thresholds) == set(LABELS) - {NO_FINDING}
    assert set(point.pooled) == set(point.thresholds) - {"Nodule/Mass", "Pneumonia"}
    for labels, own in ((LOCAL_LABELS, "Nodule/Mass"), (DIAGNOSES[:-1], "Pneumonia")):
        # It is the only one of its kind that was said, so all together are no more than it.
        assert {point.thresholds[label] for label in labels} == {point.thresholds[own]}
    assert point.thresholds["Pneumonia"] > 0.05


def test_a_threshold_is_where_f1_of_the_emitted_findings_is_best() -> None:
    made = results()
    point = measure_operating_point(made, version="2", measured_on="images by hand")

    def f1(threshold: float) -> float:
        hits = said = 0
        true = sum("Pneumonia" in truth.diagnoses for truth, _ in made)
        for truth, reading in made:
            (finding,) = [one for one in point.apply(reading).findings if one.label == "Pneumonia"]
            if finding.score >= threshold:
                said, hits = said + 1, hits + ("Pneumonia" in truth.diagnoses)
        return 2 * hits / (said + true)

    best = f1(point.thresholds["Pneumonia"])
    assert best == pytest.approx(max(f1(step / 100) for step in range(100)))
    assert best > f1(0.0)


def test_what_falls_below_is_counted() -> None:
    made = results()
    point = measure_operating_point(made, version="2", measured_on="images by hand")
    point = dataclasses.replace(point, thresholds={"Pneumonia": 1.0})
    assert below_thresholds(point, made) == {"Nodule/Mass": (0, 300), "Pneumonia": (300, 300)}


def test_images_the_model_failed_on_do_not_count() -> None:
    failed = (Statement((), frozenset({NO_FINDING})), Reading((), failure="no numbers"))
    point = measure_operating_point([*results(), failed], version="2", measured_on="images by hand")
    assert point.images == 300


def test_a_model_that_says_nothing_cannot_be_calibrated() -> None:
    silent = [(truth, Reading(())) for truth, _ in results(20)]
    with pytest.raises(TrainingError, match="too little to calibrate on"):
        measure_operating_point(silent, version="2", measured_on="images by hand")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model with an operating point, by which its version is 2."""
    save_tiny_model(tmp_path / "model")
    point = measure_operating_point(results(), version="2", measured_on="images by hand")
    write_operating_point(tmp_path / "model", point)
    return tmp_path / "model"


def test_all_else_in_the_folder_stays_as_it_was(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    before = json.loads(path.read_text()) | {"remark": "of a person's own"}
    path.write_text(json.dumps(before))
    files = {file: file.read_bytes() for file in (tmp_path / "model").rglob("*") if file.is_file()}
    point = measure_operating_point(results(), version="2", measured_on="images by hand")
    write_operating_point(tmp_path / "model", point)
    after = json.loads(path.read_text())
    assert {**after, "version": "1", "operating_point": None} == before
    assert {file for file in (tmp_path / "model").rglob("*") if file.is_file()} == set(files)
    assert all(file.read_bytes() == content for file, content in files.items() if file != path)
    loaded = LiteGPT.from_pretrained(tmp_path / "model")  # verifies the checksums
    assert loaded.config.operating_point == point
    assert loaded.config.identity.version == "2"


def test_a_folder_that_is_no_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    point = measure_operating_point(results(), version="2", measured_on="images by hand")
    with pytest.raises(ModelError):
        write_operating_point(tmp_path, point)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_calibrated_model_can_still_be_asked_for_its_own_scores(folder: Path) -> None:
    image = Radiograph(np.zeros((50, 40), np.uint8))
    (raw,) = Engine.load(folder, device="cpu", calibrated=False).read([image])
    (calibrated,) = Engine.load(folder, device="cpu").read([image])
    assert not raw.calibrated
    point = read_config(folder).operating_point
    assert point is not None
    assert calibrated == point.apply(raw)
    (free,) = Engine.load(folder, device="cpu", constrained=False).read([image])
    assert not free.calibrated  # it was measured on constrained answers


def test_a_model_that_learns_on_loses_its_operating_point(folder: Path, tmp_path: Path) -> None:
    train_stage(tmp_path / "on", short("grounding"), start=folder, device="cpu", report=ignore)
    assert read_config(tmp_path / "on" / "last").operating_point is None
