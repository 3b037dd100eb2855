"""Who is in an image: the one thing that stands in its file alone, and never in the records."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from litegpt.attributes import MALFORMED
from service.header import values

_UNREADABLE: Final = (*MALFORMED, OSError, InvalidDicomError)


@dataclass(frozen=True, slots=True)
class Patient:
    """Who is in the image, as its header says."""

    name: str
    id: str


def read_patient(file: Path) -> Patient | None:
    """The patient's name and id; ``None`` where the file is not there, or cannot be read."""
    try:
        dataset = _header(file, "PatientName", "PatientID")
        name = str(dataset.get("PatientName") or "").replace("^", " ").strip()
        return Patient(name, str(dataset.get("PatientID") or "").strip())
    except _UNREADABLE:
        return None


@dataclass(frozen=True, slots=True)
class PatientKey:
    """What a patient is known by: an id, and who gives such ids (PS3.3 C.7.1.1); either may be empty."""

    id: str
    issuer: str


def read_key(file: Path) -> PatientKey | None:
    """Whose a file is, as its header says; ``None`` where that cannot be read."""
    keywords = ("PatientID", "IssuerOfPatientID")
    try:
        dataset = _header(file, *keywords)
        for keyword in keywords:
            dataset.get(keyword)  # raises where it cannot be decoded, which is not the same as absent
        id_, issuer = ("\\".join(map(str, values(dataset, keyword))) for keyword in keywords)
        return PatientKey(comparable(id_), comparable(issuer))
    except _UNREADABLE:
        return None


def _header(file: Path, *keywords: str) -> Dataset:
    """These elements of a file, and how its texts are encoded."""
    tags: list[Any] = [*keywords, "SpecificCharacterSet"]
    return dcmread(file, stop_before_pixels=True, specific_tags=tags)


def comparable(text: str) -> str:
    """A text as texts are compared: spaces around a value mean nothing (PS3.5 6.2, LO), nor how an accented
    letter is composed."""
    return unicodedata.normalize("NFC", text.replace("\x00", "").strip())
