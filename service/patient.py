"""Who is in an image: the one thing that stands in its file alone, and never in the records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError


@dataclass(frozen=True, slots=True)
class Patient:
    """Who is in the image, as its header says."""

    name: str
    id: str


def read_patient(file: Path) -> Patient | None:
    """The patient's name and id; ``None`` where the file is not there, or cannot be read."""
    try:
        tags = ["PatientName", "PatientID", "SpecificCharacterSet"]
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags)
        name = str(dataset.get("PatientName") or "").replace("^", " ").strip()
        return Patient(name, str(dataset.get("PatientID") or "").strip())
    except (OSError, InvalidDicomError, ValueError, TypeError, AttributeError):
        return None
