"""A list of accession numbers from a file: one on each line, or a column of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.errors import SettingsError
from service.retrieval.filters import accession_number

_DELIMITERS: Final = ",;\t"


def read_accession_numbers(named: str) -> tuple[str, ...]:
    """Reads ``FILE``, one number on each line, or ``FILE:COLUMN``, a table with a line of headings.

    Empty ones are passed over, and each is taken once.

    Raises:
        SettingsError: One line that says what is wrong, and in which line of the file.
    """
    path, column = _file_and_column(named)
    numbers: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, text in _cells(file, column) if column else enumerate(file, start=1):
                if text.strip():
                    numbers[_checked(text, path, line)] = None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} is no text in UTF-8, or no table: {error}") from None
    except LookupError:
        raise SettingsError(f"{path} has no column {column!r} in its first line") from None
    if not numbers:
        raise SettingsError(f"{path} has no accession numbers")
    return tuple(numbers)


def _file_and_column(named: str) -> tuple[Path, str]:
    file, colon, column = named.rpartition(":")
    return (Path(file), column) if colon and not Path(named).exists() else (Path(named), "")


def _cells(file: Iterator[str], column: str) -> Iterator[tuple[int, str]]:
    headings = next(file, "")
    delimiter = max(_DELIMITERS, key=headings.count)
    names = next(csv.reader([headings], delimiter=delimiter), [])
    if column not in names:
        raise LookupError(column)
    index = names.index(column)
    rows = csv.reader(file, delimiter=delimiter)
    for row in rows:
        yield rows.line_num + 1, row[index] if index < len(row) else ""


def _checked(text: str, path: Path, line: int) -> str:
    try:
        return accession_number(text)
    except ValueError as error:
        raise SettingsError(f"{path}, line {line}: {error}") from None
