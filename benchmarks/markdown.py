"""A table for people, as it stands in the documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Markdown, a line each for the columns' names, what parts them from the rows, and every row."""
    lines = chain((columns, ["---"] * len(columns)), rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
