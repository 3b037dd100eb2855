"""The table of docs/training.md names every value of a recipe, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from training.recipe import Adapter, Data, Optimiser, Recipe, Task

TABLE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_the_table_of_recipes_is_whole() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| `[a-z_]+`", line)]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert named == set(Recipe.model_fields)
    text = "\n".join(rows)
    for section in (Optimiser, Adapter, Data, Task):
        for name in section.model_fields:
            assert f"`{name}`" in text, name


def test_the_defaults_in_the_table_are_the_recipe_s() -> None:
    text = TABLE.read_text()
    for name in ("dense", "number_sigma", "precision", "checkpoint_every_steps", "seed"):
        shown = re.search(rf"^\| `{name}` \| (\S+) \|", text, re.MULTILINE)
        assert shown and str(Recipe.model_fields[name].default).removesuffix(".0") == shown[1], name
