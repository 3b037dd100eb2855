"""Recipes: what they may say, and that nonsense is refused in one line that names it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.recipe import Optimiser, read_recipe, recipe_of, shipped_recipes
from training.schedule import learning_rate


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_read_and_written(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.stage == Path(name).name
    written = yaml.safe_dump(recipe.model_dump(mode="json"))  # as a run's folder keeps it
    assert recipe_of(yaml.safe_load(written), "again") == recipe


def test_the_paper_s_stages_say_what_was_published() -> None:
    """The table of reference/litegpt.md, section 4, by hand."""
    first, second = read_recipe("paper/grounding"), read_recipe("paper/diagnosis")
    for recipe in (first, second):
        assert recipe.trains == ("projection", "adapter")
        assert (recipe.batch_size, recipe.accumulation, recipe.steps_per_epoch) == (4, 1, 3750)
        optimiser = recipe.optimiser
        assert (optimiser.kind, optimiser.warm_up_from, optimiser.peak, optimiser.end) == (
            "adamw",
            1e-6,
            1e-5,
            1e-6,
        )
        assert (optimiser.warm_up_steps, optimiser.weight_decay, optimiser.clip_norm) == (1000, 0.05, None)
        assert optimiser.betas == (0.9, 0.999)
        assert (recipe.adapter.rank, recipe.adapter.alpha, recipe.adapter.dropout) == (64, 16, 0.05)
    assert (first.epochs, set(first.tasks)) == (3, {"identify"})
    assert (second.epochs, set(second.tasks)) == (10, {"vqa"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trains": ["eyes"]}, "trains.0: Input should be"),
        ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1"),
        ({"optimiser.peak": "fast"}, "optimiser.peak: Input should be a valid number"),
        ({"learning_rate": 1}, "learning_rate: Extra inputs are not permitted"),
        ({"optimiser.speed": 1}, "optimiser.speed: Extra inputs"),
        ({"stage.name": 1}, "a recipe has no value stage.name"),
        ({"tasks": {}, "dense": 0}, "nothing to learn"),
        ({"dense": 1}, "which this recipe freezes"),
        ({"trains": ["language_model", "adapter"]}, "adapter or language_model, not both"),
        ({"trains": ["encoders"], "data.cache_tokens": True}, "the encoders learn, so their tokens change"),
        ({"tasks.identify.share": 2}, "tasks.identify.share: Input should be less than or equal to 1"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError) as refused:
        read_recipe("phantom/grounding").with_values(change)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for content, words in (("a: [", "is no YAML"), ("", "Input should be"), ("- 1", "Input should be")):
        file.write_text(content)
        with pytest.raises(TrainingError, match=words):
            read_recipe(file)
    with pytest.raises(TrainingError, match="shipped are paper/diagnosis, paper/grounding"):
        read_recipe("paper/groundign")


def test_a_description_does_not_make_another_recipe() -> None:
    recipe = read_recipe("phantom/grounding")
    assert recipe.with_values({"description": "mine"}).digest == recipe.digest
    assert recipe.with_values({"seed": 7}).digest != recipe.digest


def published(step: int, *, steps: int, warm_up: int, start: float, peak: float, end: float) -> float:
    """LAVIS' schedule as section 4 of the reference describes it."""
    if step < warm_up:
        return start + (peak - start) * step / warm_up
    return (peak - end) * 0.5 * (1 + math.cos(math.pi * step / steps)) + end


@given(st.integers(0, 11_249))
def test_the_paper_s_rate_at_every_step(step: int) -> None:
    expected = published(step, steps=11_250, warm_up=1000, start=1e-6, peak=1e-5, end=1e-6)
    assert learning_rate(read_recipe("paper/grounding").optimiser, step, 11_250) == pytest.approx(expected)


def test_the_rate_by_hand() -> None:
    optimiser = Optimiser(peak=1.0, warm_up_from=0.2, end=0.0, warm_up_steps=4)
    assert [learning_rate(optimiser, step, 12) for step in (0, 2, 4, 6, 12)] == pytest.approx(
        [0.2, 0.6, 0.75, 0.5, 0.0]
    )
