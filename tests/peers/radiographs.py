"""Radiographs to send: the shipped phantoms and the real ones, under identities of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.uid import UID, generate_uid

from litegpt.phantoms import phantom_files
from tests.presence import RADIOGRAPHS


def sample_files() -> list[Path]:
    """The phantoms, and the real radiographs where they are."""
    return [*phantom_files(), *sorted(RADIOGRAPHS.glob("*.dcm"))]


def as_new_studies(files: Iterable[Path], folder: Path) -> list[Path]:
    """Copies of the files, each a study of its own that no node has seen; pixels and syntax stay."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.StudyInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = generate_uid()
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        copies.append(folder / f"{number:03d}.dcm")
        dataset.save_as(copies[-1], enforce_file_format=True)
    return copies


def study_uids(files: Iterable[Path]) -> set[str]:
    """The studies that the files belong to."""
    return {str(_header(file).StudyInstanceUID) for file in files}


def syntax_of(file: Path) -> UID:
    """The transfer syntax of a file."""
    return UID(_header(file).file_meta.TransferSyntaxUID)


def _header(file: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(file, stop_before_pixels=True)
