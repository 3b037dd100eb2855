"""Makes small valid radiographs for tests: CR, DX For Presentation, DX For Processing, Secondary Capture.

``make_radiograph()`` gives a dataset ready for ``dataset.save_as(path, enforce_file_format=True)`` that
``dciodvfy`` has no error against. Every call makes a new study, series and instance unless UIDs are given.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom.dsutils import encode

CR: Final = ComputedRadiographyImageStorage
DX: Final = DigitalXRayImageStorageForPresentation
DX_FOR_PROCESSING: Final = DigitalXRayImageStorageForProcessing
SECONDARY_CAPTURE: Final = SecondaryCaptureImageStorage


def with_other_pixels(of: Dataset, **attributes: object) -> Dataset:
    """Another radiograph under the same UIDs: its left is the other's right."""
    other = make_radiograph(study_uid=str(of.StudyInstanceUID), **attributes)  # type: ignore[arg-type]
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = of.SOPInstanceUID
    other.SeriesInstanceUID = of.SeriesInstanceUID
    other.PixelData = np.flip(np.asarray(other.pixel_array), axis=1).tobytes()
    return other


def make_radiograph(
    pixels: NDArray[Any] | None = None,
    *,
    rows: int = 64,
    columns: int = 48,
    bits_stored: int = 12,
    photometric: str = "MONOCHROME2",
    sop_class: str = DX,
    study_uid: str | None = None,
    series_uid: str | None = None,
    sop_instance_uid: str | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> Dataset:
    """A chest radiograph's dataset, pixels included.

    Args:
        pixels: Stored values, (rows, columns) or (rows, columns, 3) for RGB; signed integers are written with
            Pixel Representation 1. Left out, a picture that no flip or turn maps onto itself.
        rows: Height in pixels, where ``pixels`` is left out.
        columns: Width in pixels, where ``pixels`` is left out.
        bits_stored: 1..16; up to 8 are allocated 8 bits, more are allocated 16.
        photometric: Photometric Interpretation.
        sop_class: ``CR``, ``DX``, ``DX_FOR_PROCESSING`` or ``SECONDARY_CAPTURE``; sets the Modality too.
        study_uid: Study Instance UID, to put several images in one study.
        series_uid: Series Instance UID.
        sop_instance_uid: SOP Instance UID.
        transfer_syntax: Uncompressed, deflated, or one that pydicom compresses to (RLE, JPEG-LS, JPEG 2000).
        **attributes: DICOM keywords to set, last of all; ``None`` takes the attribute away.
    """
    if pixels is None:
        pixels = asymmetric_pixels(rows, columns, bits_stored)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UID(sop_class)
    dataset.SOPInstanceUID = UID(sop_instance_uid or generate_uid())
    dataset.StudyInstanceUID = UID(study_uid or generate_uid())
    dataset.SeriesInstanceUID = UID(series_uid or generate_uid())
    _add_patient_and_study(dataset)
    _add_series(dataset)
    _add_pixels(dataset, pixels, bits_stored, photometric)
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    return _in_transfer_syntax(dataset, UID(transfer_syntax))


def asymmetric_pixels(rows: int, columns: int, bits_stored: int = 12) -> NDArray[np.uint16]:
    """A ramp over the whole range of ``bits_stored``, with a bright corner mark: (rows, columns) uint16."""
    highest = 2**bits_stored - 1
    ramp = np.linspace(0, 0.8 * highest, rows * columns).reshape(rows, columns)  # (rows, columns)
    ramp[: max(1, rows // 8), : max(1, columns // 8)] = highest
    return ramp.astype(np.uint16)


def _add_patient_and_study(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Test^Chest"
    dataset.PatientID = "TEST-1"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.PatientAge = "055Y"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20250102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101112"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "ACC-1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Chest"


def _add_series(dataset: Dataset) -> None:
    dataset.SeriesDescription = "Chest PA"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.Manufacturer = "Test"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientOrientation = ["L", "F"]
    if dataset.SOPClassUID == SECONDARY_CAPTURE:
        dataset.Modality = "OT"
        dataset.ConversionType = "WSD"
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.PatientOrientation = None
        return
    dataset.ViewPosition = "PA"
    if dataset.SOPClassUID == CR:
        dataset.Modality = "CR"
        dataset.PlateID = "1"
        return
    for_processing = dataset.SOPClassUID == DX_FOR_PROCESSING
    dataset.Modality = "DX"
    dataset.PresentationIntentType = "FOR PROCESSING" if for_processing else "FOR PRESENTATION"
    dataset.ImagerPixelSpacing = ["0.4", "0.4"]
    dataset.DetectorType = "SCINTILLATOR"
    dataset.DetectorConfiguration = "AREA"
    dataset.PositionerType = "NONE"
    dataset.ImageLaterality = "U"
    dataset.BurnedInAnnotation = "NO"
    dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    dataset.ViewCodeSequence = [_code("399348003", "SCT", "postero-anterior")]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.AcquisitionContextSequence = []


def _add_pixels(dataset: Dataset, pixels: NDArray[Any], bits_stored: int, photometric: str) -> None:
    bits_allocated = 8 if bits_stored <= 8 else 16
    signed = bool(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = bits_allocated
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.LossyImageCompression = "00"
    if dataset.SOPClassUID in (DX, DX_FOR_PROCESSING):
        inverse = photometric == "MONOCHROME1"
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1 if inverse else -1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
        dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    if dataset.SOPClassUID in (DX, CR):
        dataset.WindowCenter, dataset.WindowWidth = str(2 ** (bits_stored - 1)), str(2**bits_stored)
    stored = pixels.astype(f"<{'i' if signed else 'u'}{bits_allocated // 8}").tobytes()
    dataset.PixelData = stored + b"\0" * (len(stored) % 2)
    dataset["PixelData"].VR = "OB" if bits_allocated == 8 else "OW"


def _in_transfer_syntax(dataset: Dataset, transfer_syntax: UID) -> Dataset:
    if transfer_syntax.is_encapsulated:
        dataset.compress(transfer_syntax, generate_instance_uid=False)
        return dataset
    if transfer_syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        # pydicom writes pixel data as it is given, in whatever byte order the file has
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def encoded(dataset: Dataset) -> bytes:
    """A dataset's bytes in Explicit VR Little Endian."""
    content = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert content is not None
    return content
