"""Outcomes and tables by hand, costs against worked ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.litegpt.tiny_models import tiny_model
from tests.training.recipes import short
from training.errors import TrainingError
from training.phantom_course import phantom_course
from training.study.cost import (
    flops_per_image,
    highest_ever,
    trained_parameters,
)
from training.study.outcome import Outcome, interval
from training.study.plan import Plan, Row, Step
from training.study.table import put_into, to_markdown

SCORES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@given(st.lists(SCORES, min_size=2, max_size=8).filter(lambda values: len(set(values)) > 1))
def test_the_interval_is_student_s(values: list[float]) -> None:
    found = interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, sum(values) / len(values), stats.sem(values))
    assert found.mean is not None and found.half_width is not None
    assert found.mean - found.half_width == pytest.approx(low, abs=1e-9)
    assert found.mean + found.half_width == pytest.approx(high, abs=1e-9)


def test_an_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, t(0.975; 2) = 4.303: 4.303 / √3 = 2.484.
    assert str(interval([1.0, 2.0, 3.0])) == "2.000 ± 2.484"
    assert str(interval([0.5])) == "0.500"
    assert str(interval([0.5, None])) == "0.500"
    assert str(interval([None, math.nan])) == "–"


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    outcome = Outcome("row", 3, {"local F1": 0.5, "mAP@0.4": None}, 12, 24, 1.5, 2e9, 10**9)
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path) == outcome
    assert Outcome.read(tmp_path / "elsewhere") is None
    (tmp_path / "result.json").write_text('{"speed": 1}')
    with pytest.raises(TrainingError, match="is no result of a study"):
        Outcome.read(tmp_path)


def test_the_table_by_hand(tmp_path: Path) -> None:
    plan = Plan(
        title="T",
        start=tmp_path,
        rows=(Row(name="a", question="Why?", stages=(Step(recipe="r"),)), Row(name="b", question="Not?")),
    )
    runs = [Outcome("a", seed, {"local F1": float(seed)}, 1234, 24, 60.0, 2e9, 10**6) for seed in (1, 2, 3)]
    text = to_markdown(plan, [*runs, Outcome("b", 1, {}, failure="no weights")])
    assert "- **a**: Why?" in text
    assert "| a | 3 | 2.000 ± 2.484 |" in text
    assert "| a | 1,234 | 24 | 1.0 | 2.00 | 1 |" in text
    assert "| b | 0 | – |" in text
    assert "b, seed 1, failed: no weights" in text
    absent = to_markdown(plan, [Outcome("b", 1, {}, failure="no data", left_out=True)])
    assert "b, seed 1, left out: no data" in absent and "failed" not in absent
    document = tmp_path / "d.md"
    document.write_text("before\n<!-- study: begin -->\nold\n<!-- study: end -->\nafter\n")
    put_into(document, text)
    written = document.read_text()
    assert written.startswith(
        "before\n<!-- study: begin -->\n\nT. Measured on 300 phantoms of seed 999.\n"
    ) and written.endswith("end -->\nafter\n")
    assert "old" not in written
    document.write_text("no marks")
    with pytest.raises(TrainingError, match="has no place for a study"):
        put_into(document, text)


def test_weights_that_learn_are_counted() -> None:
    loaded = tiny_model()
    expected = sum(
        parameter.numel()
        for name, parameter in loaded.model.named_parameters()
        if name.startswith("projection") or "lora_" in name
    )
    assert trained_parameters(loaded, short("grounding")) == expected


def test_operations_of_the_projection_by_hand() -> None:
    """What a step costs with the projection, and with nothing in its place."""
    recipe = short("diagnosis", tasks={"vqa": {}}, trains=["projection"])
    loaded = tiny_model()
    lessons = phantom_course(loaded, recipe).lessons
    whole = flops_per_image(loaded, recipe, lessons)
    layers = (loaded.model.projection.fc1, loaded.model.projection.fc2)
    multiplications = sum(layer.in_features * layer.out_features for layer in layers)
    # 49 tokens; forwards, gradient of the weights, and of the inputs of the second layer
    second = layers[1].in_features * layers[1].out_features
    by_hand = 2 * 49 * (2 * multiplications + second)

    class WithoutProjection(torch.nn.Module):
        group = loaded.model.projection.group
        fc1 = loaded.model.projection.fc1

        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Parameter(torch.zeros(49, layers[1].out_features))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.embedding.expand(len(tokens), -1, -1)

    loaded.model.projection = WithoutProjection()  # type: ignore[assignment]
    without = flops_per_image(loaded, recipe, lessons)
    assert whole - without == pytest.approx(by_hand, rel=1e-6)


def test_the_peak_of_several_sittings_is_the_highest(tmp_path: Path) -> None:
    file = tmp_path / "peak"
    assert highest_ever(file, None) is None and not file.exists()
    assert [highest_ever(file, now) for now in (5, 3, None, 9)] == [5, 5, 5, 9]
    assert [one.name for one in tmp_path.iterdir()] == ["peak"]
