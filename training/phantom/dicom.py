"""Phantoms as DICOM files: DX and CR images For Presentation, in the forms that hospitals' archives hold.

DX Image IOD PS3.3 A.26, CR Image IOD PS3.3 A.2. Patients are obviously synthetic. The same phantom, form and
names give the same file.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from litegpt.boxes import Box
from training.complete_file import complete_file
from training.phantom.radiograph import Phantom

_DATE: Final = "20260105"
_TIME: Final = "101500"
_ROWS_MM: Final = 420.0
"""Height of the detector; the pixel spacing follows from it."""


@dataclass(frozen=True, slots=True)
class DicomForm:
    """How an image is written.

    Attributes:
        modality: DX or CR.
        rows, columns: Size of the matrix.
        bits_stored: 8, 10 or 12.
        photometric: MONOCHROME1 stores bright as small values.
        transfer_syntax: How the pixels are compressed; always lossless.
    """

    modality: Literal["DX", "CR"]
    rows: int
    columns: int
    bits_stored: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    transfer_syntax: UID


FORMS: Final = (
    DicomForm("DX", 880, 740, 12, "MONOCHROME2", JPEG2000Lossless),
    DicomForm("DX", 760, 820, 12, "MONOCHROME1", JPEGLSLossless),
    DicomForm("CR", 720, 720, 8, "MONOCHROME2", RLELossless),
    DicomForm("CR", 840, 700, 10, "MONOCHROME1", JPEGLSLossless),
    DicomForm("DX", 704, 640, 8, "MONOCHROME1", ExplicitVRLittleEndian),
    DicomForm("DX", 940, 760, 12, "MONOCHROME2", JPEGLSLossless),
    DicomForm("CR", 800, 800, 12, "MONOCHROME1", JPEG2000Lossless),
    DicomForm("CR", 700, 860, 8, "MONOCHROME2", JPEG2000Lossless),
)
"""The forms that phantoms are written in, one after the other."""


@dataclass(frozen=True, slots=True)
class Label:
    """Whose image it is.

    Attributes:
        patient: Name and ID follow from it: ``Three`` is ``Phantom^Three``.
        study: Names the study; images of the same study share it.
        image: Number within the study, from 1.
        age_years: The patient's age.
    """

    patient: str
    study: str
    image: int
    age_years: int


def phantom_dataset(phantom: Phantom, form: DicomForm, label: Label) -> Dataset:
    """A complete DICOM object with file meta, its pixels compressed."""
    dataset = Dataset()
    _identify(dataset, form, label)
    if form.modality == "DX":
        _describe_dx(dataset)
    else:
        _describe_cr(dataset)
    _describe_view(dataset, form)
    _describe_pixels(dataset, form)
    dataset.PixelData = _stored_pixels(phantom, form).tobytes()
    dataset["PixelData"].VR = "OB" if form.bits_stored == 8 else "OW"
    if form.transfer_syntax != ExplicitVRLittleEndian:
        dataset.compress(form.transfer_syntax, generate_instance_uid=False)
    return dataset


def write_phantom(phantom: Phantom, form: DicomForm, label: Label, path: Path) -> None:
    """Writes one DICOM file, whole or not at all."""
    dataset = phantom_dataset(phantom, form, label)
    with complete_file(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def in_form(box: Box, phantom: Phantom, form: DicomForm) -> Box:
    """A phantom's box in pixels of the written matrix."""
    rows, columns = phantom.pixels.shape
    x, y = form.columns / columns, form.rows / rows
    return Box(box.x_min * x, box.y_min * y, box.x_max * x, box.y_max * y)


def _identify(dataset: Dataset, form: DicomForm, label: Label) -> None:
    """Patient, General Study and General Series modules."""
    is_dx = form.modality == "DX"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        DigitalXRayImageStorageForPresentation if is_dx else ComputedRadiographyImageStorage
    )
    meta.MediaStorageSOPInstanceUID = _uid(f"{label.study}/{label.image}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{name}Date", _DATE)
        setattr(dataset, f"{name}Time", _TIME)
    dataset.PatientName = f"Phantom^{label.patient}"
    dataset.PatientID = f"PHANTOM-{label.patient.upper()}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.PatientAge = f"{label.age_years:03d}Y"
    dataset.PatientComments = "Synthetic image, no patient"
    dataset.StudyInstanceUID = _uid(label.study)
    dataset.SeriesInstanceUID = _uid(f"{label.study}/series")
    dataset.StudyID = "1"
    dataset.AccessionNumber = f"PH{uuid.uuid5(_NAMESPACE, label.study).int % 10**8:08d}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Chest PA, synthetic"
    dataset.SeriesDescription = "Chest PA, synthetic"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = label.image
    dataset.Modality = form.modality
    dataset.Manufacturer = "LiteGPT phantom"
    dataset.ManufacturerModelName = "Phantom"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.BurnedInAnnotation = "NO"


def _describe_dx(dataset: Dataset) -> None:
    """DX Series, DX Detector, DX Positioning and DX Image modules (PS3.3 C.8.11)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.AcquisitionNumber = 1
    dataset.ImageLaterality = "U"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.DetectorType = "SCINTILLATOR"
    dataset.DetectorConfiguration = "AREA"
    dataset.PositionerType = "NONE"
    dataset.AcquisitionContextSequence = []
    dataset.AnatomicRegionSequence = [_code("51185008", "Chest")]
    view = _code("399348003", "postero-anterior")
    view.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [view]


def _describe_cr(dataset: Dataset) -> None:
    """CR Series and CR Image modules (PS3.3 C.8.1)."""
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.AcquisitionNumber = 1
    dataset.PlateType = ""


def _describe_view(dataset: Dataset, form: DicomForm) -> None:
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.KVP = "120"
    spacing = f"{_ROWS_MM / form.rows:.4f}"
    dataset.ImagerPixelSpacing = [spacing, spacing]


def _describe_pixels(dataset: Dataset, form: DicomForm) -> None:
    """Image Pixel module, and how stored values are shown: by a window over all of them."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = form.photometric
    dataset.Rows = form.rows
    dataset.Columns = form.columns
    dataset.BitsAllocated = 8 if form.bits_stored == 8 else 16
    dataset.BitsStored = form.bits_stored
    dataset.HighBit = form.bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    inverted = form.photometric == "MONOCHROME1"
    if form.modality == "DX":
        dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
        dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
        dataset.RescaleIntercept = "0"
        dataset.RescaleSlope = "1"
        dataset.RescaleType = "US"
    values = 1 << form.bits_stored
    dataset.WindowCenter = str(values // 2)
    dataset.WindowWidth = str(values)


def _stored_pixels(phantom: Phantom, form: DicomForm) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Enlarges the phantom to the matrix, (rows, columns), and scales 0..255 to the stored bits."""
    picture = Image.fromarray(phantom.pixels.astype(np.float32))
    enlarged = np.asarray(picture.resize((form.columns, form.rows), Image.Resampling.BICUBIC))
    largest = (1 << form.bits_stored) - 1
    values = np.clip(np.rint(enlarged * (largest / 255)), 0, largest)
    if form.photometric == "MONOCHROME1":
        values = largest - values
    return values.astype(np.uint8) if form.bits_stored == 8 else values.astype("<u2")


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "SCT"
    code.CodeMeaning = meaning
    return code


_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "phantoms.litegpt.invalid")


def _uid(name: str) -> UID:
    """A UID derived from a name (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")
