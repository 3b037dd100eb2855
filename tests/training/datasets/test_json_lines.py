"""A hospital's own JSON lines: what is written is what is read, and each mistake has its line and field."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS
from tests.training.datasets.reading import Noted, read, touch, write
from training.datasets.example import Example, MarkedFinding


def read_lines(folder: Path, *lines: dict[str, Any] | str) -> tuple[list[Example], list[Noted]]:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    touch(folder / "images" / "1.dcm")
    touch(folder / "images" / "2.dcm")
    return read("jsonl", write(folder / "data.jsonl", *written))


ONE = {"image": "images/1.dcm"}


def test_the_documented_line(tmp_path: Path) -> None:
    (example,), problems = read_lines(
        tmp_path,
        {
            **ONE,
            "patient": "p17",
            "split": "train",
            "columns": 2000,
            "rows": 2400,
            "readers": ["R1", "R2", "R3"],
            "findings": [{"label": "Cardiomegaly", "box": [310, 820, 1640, 1530], "reader": "R1"}],
            "labels": [{"label": "Other disease", "reader": "R1"}, {"label": "No finding", "reader": "R2"}],
            "judged": ["Cardiomegaly", "Other disease", "No finding"],
        },
    )
    assert example.image == tmp_path / "images" / "1.dcm"
    assert (example.patient, example.split, example.size) == ("p17", "train", (2000, 2400))
    assert example.findings == (MarkedFinding("Cardiomegaly", Box(310, 820, 1640, 1530), "R1"),)
    assert example.labels == {"R1": {"Cardiomegaly", "Other disease"}, "R2": {"No finding"}, "R3": set()}
    assert example.judged == {"Cardiomegaly", "Other disease", "No finding"}
    assert problems == [("readers-disagree", "data.jsonl", 1, "labels")]


def test_the_image_alone_is_enough(tmp_path: Path) -> None:
    (example,), problems = read_lines(tmp_path, ONE)
    assert (example.patient, example.split, example.readers) == ("images/1.dcm", None, ("published",))
    assert example.judged == set(LABELS)
    assert problems == []


def test_what_names_no_reader_is_the_only_reader_s(tmp_path: Path) -> None:
    finding = {"label": "ILD", "box": [1, 2, 3, 4]}
    (one, other), _ = read_lines(
        tmp_path,
        {**ONE, "readers": ["R1"], "findings": [finding], "labels": ["COPD"]},
        {"image": "images/2.dcm", "readers": ["R1", "R2"], "labels": ["COPD"]},
    )
    assert one.labels == {"R1": {"ILD", "COPD"}}
    assert other.labels == {"R1": set(), "R2": set(), "published": {"COPD"}}


labels = st.sampled_from(DIAGNOSES[:-1])
corner = st.floats(0, 1000, width=32)
box = st.tuples(corner, corner, corner, corner).filter(lambda c: c[0] < c[2] and c[1] < c[3])
readers = st.sampled_from(["R1", "R2", "R3"])
findings = st.lists(st.tuples(st.sampled_from(LOCAL_LABELS), box, readers), max_size=6, unique=True)


@given(findings, st.lists(st.tuples(labels, readers), max_size=4), st.text(min_size=1, max_size=9))
@settings(max_examples=50)
def test_what_is_written_is_read(
    marked: list[tuple[str, tuple[float, ...], str]], stated: list[tuple[str, str]], patient: str
) -> None:
    line = {
        **ONE,
        "patient": patient,
        "findings": [{"label": label, "box": corners, "reader": reader} for label, corners, reader in marked],
        "labels": [{"label": label, "reader": reader} for label, reader in stated],
    }
    with tempfile.TemporaryDirectory() as folder:
        (example,), problems = read_lines(Path(folder), line)
    assert problems == []
    assert example.patient == patient
    assert example.findings == tuple(
        MarkedFinding(label, Box(*corners), reader) for label, corners, reader in marked
    )
    said = {(reader, label) for label, _, reader in marked} | {(reader, label) for label, reader in stated}
    assert {(reader, label) for reader, given in example.labels.items() for label in given} == said


def finding(**fields: Any) -> dict[str, Any]:
    return {**ONE, "findings": [{"label": "ILD", "box": [1, 2, 3, 4], **fields}]}


@pytest.mark.parametrize(
    ("line", "kind", "column", "is_read"),
    [
        ("{", "bad-field", "", False),
        ("[1]", "bad-field", "", False),
        ('{"image": "\ud800"}', "bad-field", "", False),
        ({"patient": "p"}, "no-image-id", "image", False),
        ({"image": ""}, "no-image-id", "image", False),
        ({**ONE, "findings": "ILD"}, "bad-field", "findings", False),
        (finding(box=[1, "2", 3, 4]), "bad-field", "findings.0.box.1", False),
        (finding(label=3), "bad-field", "findings.0.label", False),
        ({**ONE, "columns": 0}, "bad-field", "columns", False),
        ({**ONE, "split": "dev"}, "split-value", "split", False),
        ({"image": "images/9.dcm"}, "missing-image", "image", False),
        ({"image": "images"}, "missing-image", "image", False),
        ({**ONE, "age": 3}, "unknown-column", "age", True),
        (finding(colour="red"), "unknown-column", "findings.0.colour", True),
        (finding(label="Gout"), "unknown-class", "findings.0.label", True),
        (finding(label="ild"), "class-spelling", "findings.0.label", True),
        (finding(label="COPD"), "diagnosis-with-box", "findings.0.box.0", True),
        (finding(box=None), "box-missing", "findings.0.box.0", True),
        (finding(box=[1, 2, 3]), "box-incomplete", "findings.0.box.0", True),
        (finding(box=[]), "box-missing", "findings.0.box.0", True),
        (finding(box=[0, 0, 0, 0]), "box-empty", "findings.0.box.2", True),
        (finding(box=[3, 2, 1, 4]), "box-reversed", "findings.0.box.2", True),
        (finding(box=[1, 2, 1, 4]), "box-empty", "findings.0.box.2", True),
        ({**finding(), "columns": 2, "rows": 9}, "box-outside", "findings.0.box.0", True),
        ({**finding(), "columns": 1, "rows": 9}, "box-off-image", "findings.0.box.0", True),
        (json.dumps(finding(box=[1, float("nan"), 3, 4])), "box-incomplete", "findings.0.box.1", True),
        (json.dumps(finding(box=[1, 2, 3, float("inf")])), "box-number", "findings.0.box.3", True),
        ({**ONE, "labels": ["COPD", "No finding"]}, "reader-contradicts", "labels", True),
        ({**ONE, "judged": ["Gout"]}, "unknown-class", "judged.0", True),
    ],
)
def test_a_line_that_is_not_as_described(
    tmp_path: Path, line: dict[str, Any] | str, kind: str, column: str, is_read: bool
) -> None:
    if isinstance(line, str):
        path = tmp_path / "data.jsonl"
        touch(tmp_path / "images" / "1.dcm")
        path.write_bytes(line.encode(errors="surrogatepass") + b"\n")
        examples, problems = read("jsonl", path)
    else:
        examples, problems = read_lines(tmp_path, line)
    assert problems == [(kind, "data.jsonl", 1, column)]
    assert len(examples) == is_read


def test_lines_are_counted_and_blank_ones_passed_over(tmp_path: Path) -> None:
    (one, two), problems = read_lines(
        tmp_path, ONE, "", "{", {"image": "images/2.dcm"}, ONE, {**ONE, "patient": "p"}
    )
    assert (one.image_id, two.image_id) == ("images/1.dcm", "images/2.dcm")
    assert problems == [
        ("bad-field", "data.jsonl", 3, ""),
        ("duplicate-row", "data.jsonl", 5, "image"),
        ("contradictory-row", "data.jsonl", 6, "image"),
    ]


def test_a_patient_is_in_one_split(tmp_path: Path) -> None:
    (example,), problems = read_lines(
        tmp_path,
        {**ONE, "patient": "p", "split": "train"},
        {"image": "images/2.dcm", "patient": "p", "split": "test"},
    )
    assert example.split == "train"
    assert problems == [("two-splits", "data.jsonl", 2, "split")]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "1.dcm")
    path = write(tmp_path / "data.jsonl", json.dumps(ONE), newline="\r\n", encoding="utf-8-sig")
    (example,), problems = read("jsonl", path.parent)
    assert example.image_id == "images/1.dcm"
    assert problems == [("byte-order-mark", "data.jsonl", 1, "")]
