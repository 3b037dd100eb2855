"""The files that rows go into: CSV or Parquet, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any, Final, Protocol, TextIO, get_args, get_type_hints

from service.errors import OutOfResources, SettingsError
from service.exporting.rows import Row

ROW_GROUP: Final = 20_000
"""Rows of one row group of a Parquet file: as many as are held in memory."""

_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""What makes spreadsheets take a text for a formula; the wide ones do in Japanese and Chinese."""


class Table(Protocol):
    """Something that rows are written to."""

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows."""

    def finish(self) -> None:
        """Writes what is still held; the file itself stays open."""

    def abandon(self) -> None:
        """Writes nothing more."""


class CommaSeparated:
    """CSV after RFC 4180 with a line of names first, in UTF-8; what is not there is empty.

    A text that a spreadsheet could take for a formula has an apostrophe before it: there it is a text.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file)
        self._writer.writerow(Row._fields)

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows."""
        self._writer.writerows(map(_cell, row) for row in rows)

    def finish(self) -> None:
        """Writes what is still held; the file itself stays open."""
        self._file.flush()

    def abandon(self) -> None:
        """Writes nothing more."""


class Parquet:
    """Apache Parquet with typed columns; what is not there is null."""

    def __init__(self, file: IO[bytes]) -> None:
        self._arrow = _pyarrow()
        self._schema = self._arrow.schema(_arrow_type(self._arrow, *one) for one in _columns())
        self._writer = self._arrow.parquet.ParquetWriter(file, self._schema)
        self._held: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows."""
        self._held += rows
        while len(self._held) >= ROW_GROUP:
            self._write_group(self._held[:ROW_GROUP])
            del self._held[:ROW_GROUP]

    def finish(self) -> None:
        """Writes what is still held; the file itself stays open."""
        if self._held:
            self._write_group(self._held)
        self._writer.close()

    def abandon(self) -> None:
        """Writes nothing more."""
        # Else it would write its footer, into a file that is closed, when it is collected as garbage.
        self._writer.is_open = False

    def _write_group(self, rows: list[Row]) -> None:
        columns = [
            self._arrow.array(values, column.type)
            for values, column in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema), ROW_GROUP)


def require_format(target: Path) -> None:
    """Looks whether such a file can be written there; writes nothing.

    Raises:
        SettingsError: If its suffix names no format, the format needs what is not installed, or its folder
            is not there.
    """
    if target.suffix.lower() not in _FORMATS:
        raise SettingsError(f"{target} is none of {', '.join(_FORMATS)}: its suffix names the format")
    if target.suffix.lower() == ".parquet":
        _pyarrow()
    if not target.parent.is_dir():
        raise SettingsError(f"there is no folder {target.parent}")
    if target.is_dir():
        raise SettingsError(f"{target} is a folder")


@contextmanager
def whole_file(target: Path) -> Iterator[Table]:
    """A table that becomes ``target`` at the end of the block; after an error, all is as it was before.

    Raises:
        OutOfResources: If the disk does not take it.
        SettingsError: If it may not be written there.
    """
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            table = _FORMATS[target.suffix.lower()](file)
            try:
                yield table
                table.finish()
            except BaseException:
                table.abandon()
                raise
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except PermissionError as error:
        raise SettingsError(f"{target} may not be written: {error.strerror}") from error
    except OSError as error:
        raise OutOfResources(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _comma_separated_bytes(file: IO[bytes]) -> Table:
    return CommaSeparated(io.TextIOWrapper(file, encoding="utf-8", newline=""))


_FORMATS: Final[dict[str, Callable[[IO[bytes]], Table]]] = {
    ".csv": _comma_separated_bytes,
    ".parquet": Parquet,
}


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value


def _columns() -> list[tuple[str, type, bool]]:
    """Name, type, and whether it may be missing."""
    hints = get_type_hints(Row).items()
    return [(name, (get_args(hint) or (hint,))[0], bool(get_args(hint))) for name, hint in hints]


def _arrow_type(arrow: Any, name: str, kind: type, nullable: bool) -> Any:
    types = {
        str: arrow.string(),
        int: arrow.int64(),
        float: arrow.float64(),
        bool: arrow.bool_(),
        date: arrow.date32(),
        datetime: arrow.timestamp("us", tz="UTC"),
    }
    return arrow.field(name, types[kind], nullable)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SettingsError("Parquet needs pyarrow: pip install 'litegpt-node[export]'") from None
    return pyarrow
