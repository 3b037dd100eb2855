"""The Secondary Capture of one image: findings burned into the picture, for viewers that show nothing else.

The picture is the radiograph as it should be displayed, in its own size: a box stands on the same pixels as
in the image. Its lower edge says which algorithm spoke, what it found, and that this is no diagnosis.
"""

from __future__ import annotations

from typing import Final

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
from worker.results.evaluations import NO_DIAGNOSIS, statement
from worker.results.identity import ResultIdentity
from worker.results.patient_study import valid_value
from worker.results.provenance import Provenance
from worker.results.reading import ImageReading
from worker.results.source_image import patient_orientation, source_image

TEMPLATE_VERSION: Final = "2"
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
    provenance: Provenance,
) -> Dataset:
    """Draws what was found in an image.

    Args:
        reading: The image, which was read.
        radiograph: Its pixels as displayed.
        instance_number: Its place among the study's captures, from 1.
        identity: Names the captures of the study.
        provenance: Who read, when, and of whom the study is.

    Returns:
        An RGB image, Explicit VR Little Endian, not compressed.

    Raises:
        ValueError: If the image lacks its UIDs or is of another study.
    """
    source = source_image(reading.header, identity.study_instance_uid)
    algorithm = provenance.algorithm
    capture = SCImage(
        pixel_array=_picture(reading, radiograph, algorithm),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=_ANY,
        study_instance_uid=identity.study_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        series_description=provenance.series_description([reading]),
        sop_instance_uid=identity.instance_uid(source.SOPInstanceUID),
        instance_number=instance_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **provenance.equipment,
    )
    provenance.write_into(capture)
    capture.PatientOrientation = patient_orientation(reading.header)
    capture.Laterality = ""  # of a paired part of the body, which a chest is not
    capture.ConversionType = "WSD"
    capture.BurnedInAnnotation = "YES"
    if valid_value(reading.header, "LossyImageCompression") == "01":
        capture.LossyImageCompression = "01"  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
    capture.DerivationDescription = f"Findings of {algorithm.id} {algorithm.version} drawn over the image"
    capture.SourceImageSequence = [_reference(source)]
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    return capture


def _picture(
    reading: ImageReading, radiograph: Radiograph, algorithm: ModelIdentity
) -> npt.NDArray[np.uint8]:
    notes = (f"{statement(algorithm, [reading])} - {NO_DIAGNOSIS}", NO_DIAGNOSIS, "AI")
    picture = draw_overlay(radiograph, reading.positive, demonstration=algorithm.demonstration, notes=notes)
    return np.asarray(picture)  # (rows, columns, 3)


def _reference(source: Dataset) -> Dataset:
    """An item of Source Image Sequence (PS3.3 C.7.6.1.1.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
    return item
