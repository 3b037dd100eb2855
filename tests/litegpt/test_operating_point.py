"""The operating point: maps by hand, readings by hand, and nothing that makes no sense gets in."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.boxes import Box
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity
from litegpt.model_config import paper_config, read_config
from litegpt.operating_point import Calibration, OperatingPoint
from litegpt.vocabulary import NO_FINDING

BOX = Box(1, 2, 30, 40)
probabilities = st.floats(0, 1)


def calibration(raw: tuple[float, ...], calibrated: tuple[float, ...]) -> Calibration:
    return Calibration("by hand", raw, calibrated, examples=100, right=60, ece_before=0.2, ece_after=0.01)


POINT = OperatingPoint(
    version="1.1",
    measured_on="100 images by hand",
    images=100,
    findings=calibration((0.0, 0.1, 0.2), (0.0, 0.5, 1.0)),
    diagnoses=calibration((0.0, 1.0), (0.0, 0.5)),
    local_labels=calibration((0.0, 1.0), (0.2, 0.2)),
    thresholds={"Nodule/Mass": 0.4, "ILD": 0.41, "Pneumonia": 0.3},
    pooled=("ILD",),
)
READING = Reading(
    findings=(
        Finding("Nodule/Mass", 0.8, BOX, 0.1),
        Finding("ILD", 0.8, BOX, 0.1),
        Finding("Edema", 0.02, BOX),
        Finding("Pneumonia", 0.9),
        Finding(NO_FINDING, 0.1),
    ),
    answers={"identify": "…"},
    label_scores={"ILD": 0.7, "Pneumonia": 0.5},
    candidates=(Finding("ILD", 0.5, BOX, 0.4), Finding("Nodule/Mass", 0.5, BOX, 0.01)),
)


def test_between_its_breakpoints_a_map_is_linear_and_beyond_them_constant() -> None:
    mapped = calibration((0.2, 0.6), (0.1, 0.9))
    assert [mapped(score) for score in (0.0, 0.2, 0.4, 0.5, 0.6, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.5, 0.7, 0.9, 0.9]
    )
    assert calibration((0.3,), (0.6,))(0.9) == 0.6


@given(
    st.lists(probabilities, min_size=1, unique=True),
    st.data(),
    st.lists(probabilities, min_size=2, max_size=20),
)
def test_a_higher_score_is_never_calibrated_lower(
    raw: list[float], data: st.DataObject, scores: list[float]
) -> None:
    values = data.draw(st.lists(probabilities, min_size=len(raw), max_size=len(raw)))
    mapped = calibration(tuple(sorted(raw)), tuple(sorted(values)))
    calibrated = [mapped(score) for score in sorted(scores)]
    for one, following in itertools.pairwise(calibrated):
        assert one <= following + 1e-12
    assert min(values) <= min(calibrated) + 1e-12 and max(calibrated) <= max(values) + 1e-12


def test_a_reading_is_calibrated_and_cut() -> None:
    applied = POINT.apply(READING)
    told = [(finding.label, round(finding.score, 9), finding.reported) for finding in applied.findings]
    assert told == [
        ("Nodule/Mass", 0.4, True),  # 0.8 · 0.1 = 0.08, which is mapped to 0.4: as much as its threshold
        ("ILD", 0.4, False),  # the same below a threshold of 0.41
        ("Edema", 0.1, True),  # the box tells nothing: 0.02 alone; no threshold
        ("Pneumonia", 0.25, False),  # of its label score 0.5, not of 0.9
        (NO_FINDING, 0.05, True),  # no label score: 0.1 alone
    ]
    # 0.5 · 0.4 = 0.2 and 0.5 · 0.01 = 0.005
    assert [(round(one.score, 9), one.reported) for one in applied.candidates] == [
        (1.0, True),
        (0.025, False),
    ]
    assert applied.label_scores == {"ILD": pytest.approx(0.2), "Pneumonia": pytest.approx(0.25)}
    assert applied.calibrated
    for before, after in zip(READING.findings, applied.findings, strict=True):
        assert (after.box, after.box_score) == (before.box, before.box_score)
    assert applied.answers == READING.answers


def test_a_reading_is_not_calibrated_twice() -> None:
    with pytest.raises(ValueError, match="calibrated already"):
        POINT.apply(POINT.apply(READING))


def test_what_was_not_measured_is_not_told_as_if_it_were() -> None:
    applied = dataclasses.replace(POINT, local_labels=None).apply(READING)
    assert applied.label_scores == {"Pneumonia": pytest.approx(0.25)}


def test_it_survives_json() -> None:
    for point in (POINT, dataclasses.replace(POINT, local_labels=None, thresholds={}, pooled=())):
        assert OperatingPoint.from_json(json.loads(json.dumps(point.to_json()))) == point


def _change(*keys: str, to: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(POINT.to_json()))
    within = values
    for key in keys[:-1]:
        within = within[key]
    within[keys[-1]] = to
    return values


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (_change("findings", "calibrated", to=[0.0, 0.6, 0.5]), "must not fall"),
        (_change("findings", "calibrated", to=[0.0, 0.5, 1.1]), "within 0 and 1, not at 1.1"),
        (_change("findings", "calibrated", to=[0.0, float("nan"), 1.0]), "within 0 and 1, not at nan"),
        (_change("findings", "calibrated", to=[0.0, 1.0]), "as many values as breakpoints"),
        (_change("diagnoses", "raw", to=[]), "as many values as breakpoints"),
        (_change("diagnoses", "raw", to=[0.5, 0.5]), "must ascend"),
        (_change("diagnoses", "raw", to=[-0.5, 0.5]), "within 0 and 1, not at -0.5"),
        (_change("local_labels", "right", to=101), "of 100 scores 101 cannot"),
        (_change("local_labels", "ece_after", to=2), "within 0 and 1, not at 2"),
        (_change("thresholds", to={"Pneumonoultramicroscopic": 0.5}), "is no label"),
        (_change("thresholds", to={"ILD": 1.5}), "a threshold lies within 0 and 1, not at 1.5"),
        (_change("thresholds", to={NO_FINDING: 0.5}), "cannot have a threshold"),
        (_change("thresholds", to=["ILD"]), "operating_point cannot be read"),
        (_change("pooled", to=["Fracture"]), "is no label"),
        (_change("diagnoses", to={}), "operating_point cannot be read: KeyError 'method'"),
        (_change("diagnoses", to=None), "operating_point cannot be read"),
        ({}, "operating_point cannot be read: KeyError"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        OperatingPoint.from_json(values)


def test_it_is_part_of_a_model_s_configuration_and_of_its_version(tmp_path: Path) -> None:
    config = paper_config(ModelIdentity("litegpt", "1.1", demonstration=False))
    config = dataclasses.replace(config, operating_point=POINT)
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert read_config(tmp_path) == config
    (tmp_path / "config.json").write_text(json.dumps({**config.to_json(), "version": "1.2"}))
    with pytest.raises(ModelError, match=r"measured for version 1\.1, but this model is version 1\.2"):
        read_config(tmp_path)


def test_a_model_without_one_is_read(tmp_path: Path) -> None:
    values = paper_config(ModelIdentity("litegpt", "1", demonstration=False)).to_json()
    del values["operating_point"]  # as in folders from before there were any
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path).operating_point is None
