"""CSV files in every form that spreadsheets and downloads leave them in, and what cannot be read at all."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.datasets.reading import noted, write
from training.datasets.csv_table import CsvTable
from training.datasets.problems import Tally
from training.errors import DatasetError

LAYOUT = ("image", "label", "x")


def cells(path: Path, tally: Tally, *columns: str) -> list[tuple[int | None, tuple[str, ...]]]:
    table = CsvTable(path, LAYOUT, tally)
    return [(place.line, row) for place, row in table.rows(columns or LAYOUT)]


def test_rows_come_with_their_lines(tmp_path: Path) -> None:
    tally = Tally()
    path = write(tmp_path / "a.csv", "image,label,x", "a,Edema,1", "", 'b,"two\nlines",2', "c,,3")
    assert cells(path, tally) == [
        (2, ("a", "Edema", "1")),
        (5, ("b", "two\nlines", "2")),
        (6, ("c", "", "3")),
    ]
    assert tally.rows == {path: 3}
    assert noted(tally) == []


def test_what_is_read_does_not_depend_on_the_form(tmp_path: Path) -> None:
    tally = Tally(shown=0)
    path = write(
        tmp_path / "a.csv",
        "x,more,image,label,,",
        "1,m,ä,Edema",
        "2,m,b,,,,",
        newline="\r\n",
        encoding="utf-8-sig",
    )
    assert [row for _, row in cells(path, tally)] == [("ä", "Edema", "1"), ("b", "", "2")]
    assert noted(tally) == [
        ("byte-order-mark", "a.csv", 1, ""),
        ("crlf", "a.csv", 1, ""),
        ("column-order", "a.csv", 1, ""),
        ("unknown-column", "a.csv", 1, "more"),
    ]


def test_a_gzip_file_is_read_as_the_plain_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.csv", "image,label,x", "a,Edema,1")
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert cells(packed, Tally()) == cells(plain, Tally())


def test_rows_of_another_length_are_refused_and_told(tmp_path: Path) -> None:
    tally = Tally(shown=0)
    path = write(tmp_path / "a.csv", "image,label,x", "a,Edema", "b,Edema,1,,", "c,Edema,1,2")
    assert cells(path, tally) == [(3, ("b", "Edema", "1"))]
    assert noted(tally) == [("ragged-row", "a.csv", 2, ""), ("ragged-row", "a.csv", 4, "")]


def test_an_optional_column_that_is_not_there_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "image,x", "a,1")
    rows = CsvTable(path, LAYOUT, Tally()).rows(("image",), ("label", "x"))
    assert [row for _, row in rows] == [("a", "", "1")]


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)] * 3).filter(
            any
        )
    )
)
def test_what_the_standard_library_writes_is_read_back(rows: list[tuple[str, ...]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([LAYOUT, *rows])
        assert [row for _, row in cells(path, Tally())] == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.csv: the file is empty"),
        (
            b"image;label;x\na;b;1\n",
            "a.csv:1: there is no column image (the first line reads: image;label;x)",
        ),
        (b"image,label,x,label\n", "a.csv:1: there are two columns label"),
        (b"image,label,x\na,b,1\n\xff,b,1\n", "a.csv:3: not UTF-8"),
        (b'image,label,x\na,b,1\n"b,b,1\nc,b,1\n', "a.csv:3: not CSV from here on: unexpected end of data"),
    ],
    ids=["empty", "semicolons", "twice", "no UTF-8", "quote never closed"],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as raised:
        cells(path, Tally())
    assert str(raised.value) == f"{tmp_path}/{said}"


def test_a_truncated_download_is_one_line(tmp_path: Path) -> None:
    packed = gzip.compress("".join(f"{number},b,1\n" for number in range(1000)).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DatasetError, match="damaged gzip file"):
        cells(path, Tally())


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.csv: cannot be read: No such file or directory"):
        CsvTable(tmp_path / "a.csv", LAYOUT, Tally())
