"""Phantoms: what was drawn and written is what the reader gives."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from litegpt.phantoms import phantom_files
from tests.training.datasets.reading import read
from training.datasets.opened import opened
from training.datasets.problems import Tally
from training.errors import DatasetError
from training.phantom.collection import fresh_phantoms, write_collection


def test_what_was_drawn_is_read(tmp_path: Path) -> None:
    list(write_collection(fresh_phantoms(6, seed=5), tmp_path))
    examples, problems = read("phantom", tmp_path)
    assert problems == []
    for example, item in zip(examples, fresh_phantoms(6, seed=5), strict=True):
        assert example.image == tmp_path / item.file_name
        assert example.size == (item.form.columns, item.form.rows)
        drawn = item.phantom.findings
        assert [finding.label for finding in example.findings] == [finding.label for finding in drawn]
        for finding, truth in zip(example.findings, drawn, strict=True):
            assert finding.box.to_grid(*example.size) == truth.box.to_grid(224, 224)
        assert example.said == {*item.phantom.diagnoses, *(finding.label for finding in drawn)}


def test_the_shipped_phantoms_are_of_seven_patients_and_have_the_size_that_is_stated() -> None:
    folder = phantom_files()[0].parent
    examples, _ = read("phantom", folder)
    assert len(examples) == 8
    assert len({example.patient for example in examples}) == 7
    tally = Tally()
    assert list(opened(examples, tally)) == examples
    assert not tally.counts


def test_a_phantom_that_is_gone_is_missing(tmp_path: Path) -> None:
    (first, *_) = list(write_collection(fresh_phantoms(2, seed=5), tmp_path))
    first.unlink()
    examples, problems = read("phantom", tmp_path)
    assert len(examples) == 1
    assert problems == [("missing-image", "truth.json", None, "0.file")]


@pytest.mark.parametrize(("content", "said"), [("{", "Invalid JSON"), ('[{"file": 3}]', r"0\.file")])
def test_another_file_is_no_truth(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(DatasetError, match=rf"truth\.json: no truth of phantoms: {said}"):
        read("phantom", tmp_path)


def test_a_box_that_somebody_changed_is_noticed(tmp_path: Path) -> None:
    list(islice(write_collection(fresh_phantoms(3, seed=5), tmp_path), 4))
    truth = json.loads((tmp_path / "truth.json").read_text())
    number, entry = next((number, entry) for number, entry in enumerate(truth) if entry["findings"])
    entry["findings"][0]["box"][2] = 1e6
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    _, problems = read("phantom", tmp_path)
    assert problems == [("box-outside", "truth.json", None, f"{number}.findings.0.box.0")]
