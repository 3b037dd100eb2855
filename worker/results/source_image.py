"""An image's header reduced to what a result needs to refer to it, whatever else the header holds."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import UID

from litegpt.attributes import UNDECODABLE, integer, numbers
from worker.results.patient_study import valid_value

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def source_image(header: Dataset, study_instance_uid: str) -> Dataset:
    """The image as highdicom wants it for references and for the image library.

    highdicom reads many attributes of an image without asking whether they are there: orientation and spacing
    are only passed on where both are usable, under the modality that makes it look for them.

    Args:
        header: The image's attributes.
        study_instance_uid: The study it must belong to.

    Raises:
        ValueError: If the image lacks a UID or is of another study.
    """
    source = Dataset()
    for keyword in _UIDS:
        uid = UID(valid_value(header, keyword))
        if not uid.is_valid:
            raise ValueError(f"an image has no valid {keyword}")
        setattr(source, keyword, uid)
    if source.StudyInstanceUID != study_instance_uid:
        raise ValueError(f"image {source.SOPInstanceUID} is not of study {study_instance_uid}")
    source.Rows, source.Columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    source.SamplesPerPixel = 1
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"):
        setattr(source, keyword, "")  # the report's own come from the newest header
    source.StudyID = source.StudyDate = source.StudyTime = ""
    source.Modality = "OT"
    orientation, spacing = patient_orientation(header), numbers(header, "ImagerPixelSpacing")
    if orientation and len(spacing) == 2 and min(spacing) > 0:
        source.Modality = "DX"
        source.PatientOrientation, source.ImagerPixelSpacing = orientation, spacing
    return source


def patient_orientation(header: Dataset) -> list[str]:
    """Where an image's rows and columns lead, such as L and F; empty where not both values are valid."""
    try:
        values = [str(value) for value in header.get("PatientOrientation") or []]
    except UNDECODABLE:
        return []
    valid = len(values) == 2 and all(value and set(value) <= set("ALRPHF") for value in values)
    return values if valid else []
