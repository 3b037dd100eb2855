"""Where in a TOML file something stands, for whoever has to mend it.

``tomllib`` gives positions for broken syntax only. For a value that is wrong its statement is found by
parsing ever longer beginnings of the file: they break only where a statement is not at its end.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any


def line_and_column(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """Line and column, from 1, of the statement that gives what ``path`` leads to its value.

    Args:
        text: A whole TOML file that can be parsed.
        path: Keys and indices from the top, such as ``("study_rules", 0, "priority")``; the last ones are
            left out where the file says nothing of them.
    """
    whole = tomllib.loads(text)
    known = list(path)
    while not _leads_somewhere(whole, known):
        known.pop()
    lines = text.splitlines(keepends=True)
    begins = 0
    for end in range(1, len(lines) + 1):
        try:
            beginning = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _leads_somewhere(beginning, known):
            break
        begins = end
    line = lines[begins] if lines else ""
    return begins + 1, len(line) - len(line.lstrip()) + 1


def _leads_somewhere(values: Any, path: Sequence[str | int]) -> bool:
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
