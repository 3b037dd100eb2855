"""The tables of labels: complete, in our vocabulary, and as the documents print them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from litegpt.vocabulary import LABELS
from tests.training.datasets.reading import noted
from training.datasets.catalogue import DATASETS
from training.datasets.label_tables import MIMIC, NIH, OURS, RSNA, VINBIGDATA_CLASSES, LabelTable, LeftOut
from training.datasets.mimic_cxr import LABEL_COLUMNS
from training.datasets.problems import Kind, Place, Tally

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "datasets.md").read_text()
PLACE = Place(Path("a.csv"), 3)


def rows(text: str) -> set[tuple[str, ...]]:
    """The rows of every table in a text, cell by cell."""
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return {tuple(cell.strip().strip("`") for cell in line.split(" | ")) for line in lines}


@pytest.mark.parametrize("name", DATASETS)
def test_every_label_is_one_of_ours_or_left_out_for_a_reason(name: str) -> None:
    for ours in DATASETS[name].labels.entries.values():
        assert ours.reason if isinstance(ours, LeftOut) else ours in LABELS, ours


@pytest.mark.parametrize(("title", "table"), [("NIH", NIH), ("RSNA", RSNA), ("MIMIC", MIMIC)])
def test_the_document_prints_the_tables(title: str, table: LabelTable) -> None:
    printed = rows(DOCUMENT)
    for name, ours in table.entries.items():
        said = f"none: {ours.reason}" if isinstance(ours, LeftOut) else ours
        assert (title, name, said) in printed


def test_the_document_prints_every_kind_of_problem_and_what_is_done() -> None:
    printed = rows(DOCUMENT)
    for kind in Kind:
        assert (kind.label, kind.treatment.value, kind.rule) in printed
    named = {row[0] for row in printed if len(row) == 3 and row[1] in ("repaired", "refused", "kept")}
    assert named == {kind.label for kind in Kind}


def test_the_document_names_every_dataset() -> None:
    for name in DATASETS:
        assert f"`{name}`" in DOCUMENT


def test_the_files_own_columns_are_in_the_tables() -> None:
    assert set(LABEL_COLUMNS) == set(MIMIC.entries)
    assert len(VINBIGDATA_CLASSES) == 15


@pytest.mark.parametrize(
    ("written", "ours", "kinds"),
    [
        ("Other diseases", "Other disease", []),
        ("Other disease", "Other disease", []),
        ("  lung  OPACITY ", "Lung Opacity", ["class-spelling"]),
        ("Pleural_effusion", "Pleural effusion", ["class-spelling"]),
        ("Gout", None, ["unknown-class"]),
        ("", None, ["unknown-class"]),
    ],
)
def test_a_spelling_that_is_close_is_taken_and_told(written: str, ours: str | None, kinds: list[str]) -> None:
    tally = Tally(shown=0)
    assert OURS.ours(written, PLACE, "class_name", tally) == ours
    assert noted(tally) == [(kind, "a.csv", 3, "class_name") for kind in kinds]


def test_what_the_table_leaves_out_is_told_with_the_reason() -> None:
    tally = Tally()
    assert NIH.ours("hernia", PLACE, "Finding Labels", tally) is None
    assert set(tally.counts) == {Kind.CLASS_SPELLING, Kind.UNMAPPED_CLASS}
    assert "not every other lesion is one" in str(tally.first(Kind.UNMAPPED_CLASS)[0])
