"""Patient, General Study and Patient Study modules of a result, taken from an image's header.

Headers come from the world: attributes are missing, in odd character sets, too long, or not what their value
representation allows. Everything valid is taken over as it is and written in UTF-8; what is invalid is left
out, or left empty where the standard wants the attribute (type 2), and never changed into something else: a
shortened Patient ID could be another patient's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import validate_value

from litegpt.attributes import UNDECODABLE

CHARACTER_SET: Final = "ISO_IR 192"
"""UTF-8: holds every script."""

_REQUIRED: Final = (  # type 2
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_OPTIONAL: Final = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "PatientBirthTime",
    "EthnicGroup",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_REQUEST_REQUIRED: Final = (  # type 2 of Referenced Request Sequence (PS3.3 C.17.2)
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)


def patient_and_study(header: Dataset) -> Dataset:
    """The attributes that identify patient and study, as a result carries them.

    Args:
        header: An image's attributes, in its own character set.

    Returns:
        Strings only, all valid; every attribute that the modules require is there, empty if need be.
    """
    result = Dataset()
    for keyword in (*_REQUIRED, *_OPTIONAL):
        value = valid_value(header, keyword)
        if keyword == "PatientSex" and value not in ("M", "F", "O"):
            value = ""
        if value or keyword in _REQUIRED:
            setattr(result, keyword, value)
    if valid_value(header, "PatientIdentityRemoved") == "YES":
        method = valid_value(header, "DeidentificationMethod")
        if method:  # required with it
            result.PatientIdentityRemoved, result.DeidentificationMethod = "YES", method
    return result


def patient_header_digest(header: Dataset) -> str:
    """SHA-256 over what a result takes from a header: a corrected patient's name makes a new result."""
    lines = [f"{element.keyword}={element.value}" for element in patient_and_study(header)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def referenced_requests(headers: Iterable[Dataset], study_instance_uid: str) -> list[Dataset]:
    """Items of Referenced Request Sequence: one for each request that the images say they answer."""
    requests: dict[tuple[str, ...], Dataset] = {}
    for header in headers:
        for attributes in request_attributes(header) or [Dataset()]:
            request = _request(header, attributes, study_instance_uid)
            key = tuple(str(request.get(keyword)) for keyword in _REQUEST_REQUIRED)
            if any(key):
                requests.setdefault(key, request)
    return list(requests.values())


def request_attributes(header: Dataset) -> list[Dataset]:
    """The items of an image's Request Attributes Sequence."""
    try:
        value = header.get("RequestAttributesSequence")
    except UNDECODABLE:
        return []
    return list(value) if isinstance(value, Sequence) else []


def valid_value(header: Dataset, keyword: str) -> str:
    """A text-like attribute's first value as a string, decoded; empty where absent or invalid for its VR."""
    try:
        value: Any = header.get(keyword)
        if isinstance(value, MultiValue | list):
            value = value[0] if value else None
        string = "" if value is None else str(value).strip()
        validate_value(dictionary_VR(keyword), string, RAISE)
        string.encode()  # half a surrogate pair is no character
        if "\\" in string or not string.isprintable():
            return ""
    except UNDECODABLE:
        return ""
    return string


def _request(header: Dataset, attributes: Dataset, study_instance_uid: str) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID = study_instance_uid
    request.ReferencedStudySequence = []
    for keyword in _REQUEST_REQUIRED:
        setattr(request, keyword, valid_value(attributes, keyword) or valid_value(header, keyword))
    request.RequestedProcedureCodeSequence = _codes(attributes) or _codes(header)
    return request


def _codes(dataset: Dataset) -> list[Dataset]:
    """The valid items of Requested Procedure Code Sequence."""
    try:
        items = dataset.get("RequestedProcedureCodeSequence") or []
        found = [
            {
                keyword: valid_value(item, keyword)
                for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
            }
            for item in items
        ]
    except UNDECODABLE:
        return []
    result = []
    for values in found:
        if all(values.values()):
            code = Dataset()
            for keyword, value in values.items():
                setattr(code, keyword, value)
            result.append(code)
    return result
