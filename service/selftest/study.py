"""The synthetic study of a self-test: a phantom under UIDs of its own, and a name that says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.uid import generate_uid

from litegpt.phantoms import phantom_files
from service.selftest.marks import new_study_uid

ACCESSION_NUMBER: Final = "LITEGPT-SELFTEST"
PATIENT_ID: Final = "LITEGPT-SELFTEST"
PATIENT_NAME: Final = "SELFTEST^NOT A PATIENT"
DESCRIPTION: Final = "LiteGPT self-test, synthetic, no patient"

_PHANTOM: Final = "phantom-two.dcm"
"""Of an adult's age, frontal, and with findings in it."""


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """A file to send, and what identifies it."""

    path: Path
    study_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


def write_study(folder: Path, now: datetime, *, held: bool) -> SyntheticStudy:
    """Writes the one image of a new study.

    Args:
        folder: Where to.
        now: Date and time of the study, at the hospital.
        held: Whether its results are to go nowhere.
    """
    dataset = dcmread(next(path for path in phantom_files() if path.name == _PHANTOM))
    dataset.StudyInstanceUID = new_study_uid(held=held)
    # Without a prefix: below 2.25, as there is no root of our own.
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID = PATIENT_NAME, PATIENT_ID
    dataset.AccessionNumber = ACCESSION_NUMBER
    dataset.StudyDescription = dataset.SeriesDescription = DESCRIPTION
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{what}Date", f"{now:%Y%m%d}")
        setattr(dataset, f"{what}Time", f"{now:%H%M%S}")
    path = folder / "selftest.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return SyntheticStudy(
        path=path,
        study_instance_uid=str(dataset.StudyInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
    )
