"""Reads the tables of the conformance statement (``docs/conformance.md``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TEXT: Final = (Path(__file__).resolve().parents[1] / "docs" / "conformance.md").read_text(encoding="utf-8")

Row = tuple[str, ...]


def tables(heading: str) -> list[list[Row]]:
    """The bodies of the tables between a heading and the next one."""
    section = re.split(rf"^#+ {re.escape(heading)}$", TEXT, flags=re.M)[1]
    section = re.split(r"^#+ ", section, flags=re.M)[0]
    blocks = re.findall(r"(?:^\|.*\|\n)+", section, re.M)
    return [[_cells(line) for line in block.splitlines()[2:]] for block in blocks]


def table(heading: str) -> list[Row]:
    """The body of the first table under a heading."""
    return tables(heading)[0]


def _cells(line: str) -> Row:
    return tuple(cell.strip() for cell in line.strip("|").split("|"))
