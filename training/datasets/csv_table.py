"""A CSV file of a dataset, read row by row, its columns found by their names."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, Final

from training.datasets.problems import Kind, Place, Tally
from training.errors import DatasetError

Cells = tuple[str, ...]

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LOOKED_AT: Final = 65_536
"""Bytes in which line ends are looked for."""


class CsvTable:
    """A comma-separated file, UTF-8, plain or gzip, whose first line names the columns.

    Reading it does not depend on the order of columns, a byte order mark, or the kind of line ends; each is
    reported where it is not as the dataset's makers wrote it.

    Args:
        path: The file.
        layout: The columns as the makers wrote them, in their order.
        tally: Takes rows and problems.

    Raises:
        DatasetError: If the file cannot be read, is empty, or names a column twice.
    """

    def __init__(self, path: Path, layout: Sequence[str], tally: Tally) -> None:
        self.path = path
        self._tally = tally
        with _errors_named(path), _binary(path) as stream:
            start = stream.read(_LOOKED_AT)
        with _errors_named(path), _text(path) as stream:
            header = next(csv.reader(stream), [])
        # Spreadsheets leave nameless columns at the end, as in both files of NIH
        while header and not header[-1].strip():
            header.pop()
        if not header:
            raise DatasetError("the file is empty", path)
        self.header = tuple(name.strip() for name in header)
        self._check_header(layout)
        self._report_form(start, layout)

    def has(self, column: str) -> bool:
        """Whether the file has the column."""
        return column in self.header

    def rows(self, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[Place, Cells]]:
        """The cells of the wanted columns, row by row; rows with a wrong number of cells are reported.

        Args:
            columns: At least two.
            optional: More columns; one that the file does not have is empty in every row.

        Raises:
            DatasetError: If a column is missing, or the file is no UTF-8 or no CSV from some line on.
        """
        width = len(self.header)
        indices = [self._index(column) for column in columns]
        indices += [self.header.index(column) if self.has(column) else width for column in optional]
        pick = itemgetter(*indices)
        lines = 0
        with _errors_named(self.path) as named, _text(self.path) as stream:
            reader = csv.reader(stream, strict=True)
            next(reader)
            for row in reader:
                named.line = reader.line_num
                if not row:
                    continue
                lines += 1
                place = Place(self.path, named.line)
                if len(row) != width:
                    if len(row) < width or any(row[width:]):
                        self._tally.report(
                            Kind.RAGGED_ROW, place, "", f"{len(row)} fields instead of {width}"
                        )
                        continue
                    del row[width:]
                row.append("")  # stands for every column that the file does not have
                yield place, pick(row)
        self._tally.rows[self.path] = lines

    def _index(self, column: str) -> int:
        if column not in self.header:
            shown = ",".join(self.header)
            raise DatasetError(
                f"there is no column {column} (the first line reads: {shown[:200]})", self.path, 1
            )
        return self.header.index(column)

    def _check_header(self, layout: Sequence[str]) -> None:
        for name in layout:
            if self.header.count(name) > 1:
                raise DatasetError(f"there are two columns {name}", self.path, 1)

    def _report_form(self, start: bytes, layout: Sequence[str]) -> None:
        place = Place(self.path, 1)
        if start.startswith(BYTE_ORDER_MARK):
            self._tally.report(Kind.BYTE_ORDER_MARK, place, "", "the file begins with a byte order mark")
        if b"\r\n" in start:
            self._tally.report(Kind.CRLF, place, "", "lines end with CR LF")
        known = [name for name in self.header if name in layout]
        expected = [name for name in layout if name in self.header]
        if known != expected:
            self._tally.report(Kind.COLUMN_ORDER, place, "", f"{','.join(known)} for {','.join(expected)}")
        for name in self.header:
            if name and name not in layout:
                self._tally.report(Kind.UNKNOWN_COLUMN, place, name, "no column of this dataset's file")


class _Line:
    """The line that is being read."""

    line: int = 0


@contextmanager
def _errors_named(path: Path) -> Iterator[_Line]:
    """Turns what goes wrong in a file into a ``DatasetError`` with its line."""
    at = _Line()
    try:
        yield at
    except UnicodeDecodeError:
        raise DatasetError("not UTF-8", path, _undecodable_line(path)) from None
    except csv.Error as error:
        raise DatasetError(f"not CSV from here on: {error}", path, at.line + 1) from None
    except (EOFError, zlib.error) as error:
        raise DatasetError(f"damaged gzip file: {error}", path, at.line + 1) from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", path) from None


def _undecodable_line(path: Path) -> int | None:
    """The first line that is no UTF-8; text is decoded by the block, so the error does not tell."""
    with _binary(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _binary(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
