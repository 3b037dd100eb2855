"""Plans of studies: what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.phantom_model import scaled
from training.recipe import read_recipe
from training.study.plan import read_plan


@pytest.mark.parametrize("name", ["study/phantom", "study/paper"])
def test_every_row_of_a_shipped_study_is_a_recipe_that_makes_sense(name: str) -> None:
    plan = read_plan(name)
    for row in plan.rows:
        for step in row.stages:
            recipe = read_recipe(step.recipe)
            assert recipe.with_values({**step.values, "seed": 1}).digest != recipe.digest


def test_the_phantom_study_asks_all_that_the_paper_leaves_open() -> None:
    names = {row.name for row in read_plan("study/phantom").rows}
    assert names >= {
        "encoder-a-alone", "zeroed-a", "zeroed-b", "tag-grounding", "encoders-unfrozen", "grounding-only",
        "two-stages", "swapped", "mixture", "twice-as-long", "rank-8", "rate-third", "balanced", "pair-a-c",
        "another-dataset",
    }  # fmt: skip


def test_the_paper_study_asks_the_same() -> None:
    names = {row.name for row in read_plan("study/paper").rows}
    assert names >= {
        "biomedclip-alone", "zeroed-biomedclip", "zeroed-pubmedclip", "tag-grounding", "encoders-unfrozen",
        "grounding-only", "two-stages", "swapped", "mixture", "half-as-long", "rank-16", "rate-third",
        "balanced", "another-pair", "another-dataset",
    }  # fmt: skip


ROW = "{name: a, question: q, stages: [{recipe: phantom/grounding}]}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"title: t\nrows: [{ROW}]", "the rows start from nothing"),
        (f"title: t\nstart: m\nrows: [{ROW}, {ROW}]", "a is there twice"),
        ("title: t\nstart: m\nrows: [{name: z, question: q, of: a, zeroed: [0]}]", "no row a comes before z"),
        ("title: t\nstart: m\nrows: [{name: z, question: q, zeroed: [0]}]", "say with `of`"),
        ("title: t\nstart: m\nrows: [{name: z, question: q, dataset: nih}]", "give both"),
        (f"title: t\nstart: m\nrows: [{ROW}, {{name: z, question: q, of: a, zeroed: [-1]}}]", "zeroed.0: "),
        (
            f"title: t\nstart: m\nrows: [{ROW}, {{name: z, question: q, of: a, zeroed: [0], start: b}}]",
            "it learns nothing itself",
        ),
        ("title: t\nstart: m\nrows: [{name: z, question: q, start: b, encoders: [a]}]", "start or encoders"),
        ("title: t\nstart: m\nrows: []", "rows: "),
        (f"title: t\nstart: m\nexamination: {{dataset: nih}}\nrows: [{ROW}]", "dataset and data: give both"),
        (
            f"title: t\nstart: m\nexamination: {{dataset: x, data: y}}\nrows: [{ROW}]",
            "x is none of vindr-",
        ),
        (
            f"title: t\nstart: m\nexamination: {{dataset: nih, data: y, labels: [Edema]}}\nrows: [{ROW}]",
            "a dataset has its own",
        ),
        (f"title: t\nstart: m\nspeed: 1\nrows: [{ROW}]", "speed: Extra inputs"),
        ("a: [", "is no YAML"),
    ],
)
def test_nonsense_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(TrainingError) as refused:
        read_plan(file)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_only_brings_along_the_row_whose_models_are_measured() -> None:
    plan = read_plan("study/phantom")
    assert [row.name for row in plan.chosen(("zeroed-b",))] == ["two-stages", "zeroed-b"]
    with pytest.raises(TrainingError, match="the study has no row nothing"):
        plan.chosen(("nothing",))
    with pytest.raises(TrainingError, match="there is no study nothing"):
        read_plan("nothing")


def test_a_factor_shortens_every_stage() -> None:
    recipe = scaled(read_recipe("phantom/pretraining").with_values({"steps_per_epoch": 5000}), 0.01, 3)
    assert (recipe.steps_per_epoch, recipe.validate_every_steps, recipe.seed) == (50, 5, 3)
    assert recipe.optimiser.warm_up_steps == 1


def test_a_factor_shortens_epochs_where_no_steps_are_given() -> None:
    recipe = read_recipe("phantom/grounding").with_values({"steps_per_epoch": None, "epochs": 10})
    assert (scaled(recipe, 0.3).epochs, scaled(recipe, 0.3).steps_per_epoch) == (3, None)
    assert scaled(recipe, 1.0).epochs == 10
