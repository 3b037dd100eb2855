"""The table of docs/training.md names every value of a recipe with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from training.recipe import Adapter, Data, Optimiser, Recipe, Task

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
SECTIONS = {"optimiser": Optimiser, "adapter": Adapter, "data": Data}


def test_the_table_of_recipes_is_whole_and_its_defaults_are_true() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|`]+) \| [^|]+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows) == dict(_defaults())


def _defaults() -> Iterator[tuple[str, str]]:
    """Each value's dotted name, and its default as a person writes it."""
    for name in Recipe.model_fields:
        if name in SECTIONS:
            yield from _of(SECTIONS[name], f"{name}.")
        else:
            yield name, _written(Recipe, name)
        if name == "tasks":
            yield from _of(Task, "tasks.TAG.")


def _of(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name in section.model_fields:
        yield f"{prefix}{name}", _written(section, name)


def _written(section: type[BaseModel], name: str) -> str:
    field = section.model_fields[name]
    if field.is_required():
        return "required"
    value: Any = field.default
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(f"{one:g}" for one in value)
        case _:
            return "none" if value in (None, "", {}) else str(value)
