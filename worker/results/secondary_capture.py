"""The Secondary Capture of one image: findings burned into the picture, for viewers that show nothing else.

The picture is the radiograph as it should be displayed, in its own size: a box stands on the same pixels as
in the image. Its lower edge says which algorithm spoke, what it found, and that this is no diagnosis.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from litegpt.identity import ModelIdentity
from litegpt.overlay import draw_overlay
from litegpt.radiograph import Radiograph
from worker.results import codes
from worker.results.evaluations import outcome
from worker.results.identity import ResultIdentity
from worker.results.patient_study import CHARACTER_SET, patient_and_study
from worker.results.provenance import contribution, series_description, write_times
from worker.results.reading import ImageReading, ReportingDevice
from worker.results.source_image import source_image

TEMPLATE_VERSION: Final = "1"
"""Part of a result's identity: counted up whenever the same reading is drawn in another way."""

SOP_CLASS_UID: Final = SecondaryCaptureImageStorage

_ANY: Final = ("L", "F")
"""highdicom wants an orientation; where the image has none, neither has the capture."""


def secondary_capture(
    reading: ImageReading,
    radiograph: Radiograph,
    *,
    instance_number: int,
    identity: ResultIdentity,
    algorithm: ModelIdentity,
    device: ReportingDevice,
    created_at: datetime,
    time_zone: ZoneInfo,
    patient_header: Dataset,
) -> Dataset:
    """Draws what was found in an image.

    Args:
        reading: The image, which was read.
        radiograph: Its pixels as displayed.
        instance_number: Its place among the study's captures, from 1.
        identity: Names the captures of the study.
        algorithm: The model that read.
        device: The node.
        created_at: When the reading was done; with a UTC offset.
        time_zone: The hospital's, in which dates and times are written.
        patient_header: The newest header of the study, for the patient and study attributes.

    Returns:
        An RGB image, Explicit VR Little Endian, not compressed.

    Raises:
        ValueError: If the image lacks its UIDs or is of another study.
    """
    source = source_image(reading.header, identity.study_instance_uid)
    local = created_at.astimezone(time_zone)
    capture = SCImage(
        pixel_array=_picture(reading, radiograph, algorithm),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=_ANY,
        study_instance_uid=identity.study_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        series_description=series_description([reading], algorithm),
        sop_instance_uid=identity.instance_uid(source.SOPInstanceUID),
        instance_number=instance_number,
        manufacturer=device.manufacturer,
        manufacturer_model_name=device.model_name,
        device_serial_number=device.station_uid,
        software_versions=device.software_version,
        specific_character_set=CHARACTER_SET,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    capture.PatientOrientation = source.get("PatientOrientation")
    capture.Laterality = None  # of a paired part of the body, which a chest is not
    capture.ConversionType = "WSD"
    capture.BurnedInAnnotation = "YES"
    capture.DerivationDescription = f"Findings of {algorithm.id} {algorithm.version} drawn over the image"
    capture.SourceImageSequence = [_reference(source)]
    capture.StationName = device.ae_title
    capture.update(patient_and_study(patient_header))
    write_times(capture, local)
    capture.ContributingEquipmentSequence = [contribution(algorithm, device, local)]
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    return capture


def _picture(
    reading: ImageReading, radiograph: Radiograph, algorithm: ModelIdentity
) -> npt.NDArray[np.uint8]:
    said = f"{algorithm.id} {algorithm.version}: {outcome([reading])}"
    notes = (f"{said} - AI, not for diagnosis by itself", "AI, not for diagnosis by itself", "AI")
    picture = draw_overlay(radiograph, reading.positive, demonstration=algorithm.demonstration, notes=notes)
    return np.asarray(picture)  # (rows, columns, 3)


def _reference(source: Dataset) -> Dataset:
    """An item of Source Image Sequence (PS3.3 C.7.6.1.1.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
    return item
