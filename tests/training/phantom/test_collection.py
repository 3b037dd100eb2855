"""Phantoms as DICOM files: valid, lossless, repeatable, with the truth beside them."""

from __future__ import annotations

import json
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from litegpt.boxes import Box
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from tests.presence import program
from training.phantom.collection import SAMPLES, fresh_phantoms, samples, write_collection
from training.phantom.dicom import FORMS, phantom_dataset


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    list(write_collection(fresh_phantoms(len(FORMS), seed=5), folder))
    return folder


def test_every_form_shows_the_phantom_as_it_was_drawn(written: Path) -> None:
    for item in fresh_phantoms(len(FORMS), seed=5):
        shown = read_radiograph(written / item.file_name).pixels
        assert shown.shape == (item.form.rows, item.form.columns)
        size = item.phantom.pixels.shape[::-1]
        small = np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(small - item.phantom.pixels.astype(int)).mean() < 2.5, item.form


def test_the_truth_is_beside_the_files(written: Path) -> None:
    truth = {entry["file"]: entry for entry in json.loads((written / "truth.json").read_text())}
    assert sorted(truth) == sorted(path.name for path in written.glob("*.dcm"))
    for item in fresh_phantoms(len(FORMS), seed=5):
        entry = truth[item.file_name]
        assert [finding["label"] for finding in entry["findings"]] == [f.label for f in item.phantom.findings]
        for finding, drawn in zip(entry["findings"], item.phantom.findings, strict=True):
            box = Box(*finding["box"])
            assert box.to_grid(item.form.columns, item.form.rows) == drawn.box.to_grid(224, 224)


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    for path in islice(write_collection(fresh_phantoms(4, seed=5), tmp_path), 4):
        assert path.read_bytes() == (written / path.name).read_bytes()


def test_the_shipped_files_are_what_the_command_writes() -> None:
    shipped = {path.name: path for path in phantom_files()}
    items = list(samples())
    assert sorted(item.file_name for item in items) == sorted(shipped)
    for item in items:
        expected = phantom_dataset(item.phantom, item.form, item.label)
        found = dcmread(shipped[item.file_name])
        assert np.array_equal(found.pixel_array, expected.pixel_array)
        assert found.SOPInstanceUID == expected.SOPInstanceUID


def test_the_shipped_files_are_varied_and_obviously_synthetic() -> None:
    datasets = [dcmread(path) for path in phantom_files()]
    assert len(datasets) == len(SAMPLES) == 8
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 7
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 8
    assert {dataset.Modality for dataset in datasets} == {"CR", "DX"}
    assert {dataset.PhotometricInterpretation for dataset in datasets} == {"MONOCHROME1", "MONOCHROME2"}
    assert {8, 12} <= {dataset.BitsStored for dataset in datasets}
    assert len({dataset.file_meta.TransferSyntaxUID for dataset in datasets}) >= 4
    for dataset in datasets:
        assert dataset.PatientName.family_name == "Phantom"
        assert int(dataset.PatientAge[:3]) >= 18
        assert (dataset.BodyPartExamined, dataset.ViewPosition) == ("CHEST", "PA")
        assert list(dataset.PatientOrientation) == ["L", "F"]
    assert sum(path.stat().st_size for path in phantom_files()) < 3_000_000


def test_dciodvfy_finds_no_error(written: Path) -> None:
    dciodvfy = program("dciodvfy", package="dicom3tools")
    for path in [*written.glob("*.dcm"), *phantom_files()]:
        report = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False).stderr
        assert "Error" not in report, f"{path.name}: {report}"
