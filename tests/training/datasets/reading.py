"""Reads small datasets in tests: the examples, and each problem as a short tuple."""

from __future__ import annotations

from pathlib import Path

from training.datasets.catalogue import read_dataset
from training.datasets.example import Example
from training.datasets.problems import Tally

Noted = tuple[str, str, int | None, str]
"""A problem: kind, file name, line, column."""


def read(name: str, path: Path) -> tuple[list[Example], list[Noted]]:
    """All examples of a dataset, and all problems in the order of their kinds."""
    tally = Tally(shown=0)
    examples = list(read_dataset(name, path, tally))
    return examples, noted(tally)


def noted(tally: Tally) -> list[Noted]:
    """The problems of a tally that keeps all."""
    problems = [problem for kind in tally.counts for problem in tally.first(kind)]
    assert len(problems) == sum(tally.counts.values())
    return [
        (problem.kind.label, problem.place.file.name, problem.place.line, problem.column)
        for problem in problems
    ]


def write(path: Path, *lines: str, newline: str = "\n", encoding: str = "utf-8") -> Path:
    """Writes a text file, line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode(encoding))
    return path


def touch(path: Path) -> Path:
    """An empty file, for readers that do not open images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
