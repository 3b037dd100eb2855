"""Which headers are analysed, and in what words the others are not."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset, dcmread

from service.eligibility import Eligibility
from tests.images import CR, DX_FOR_PROCESSING, SECONDARY_CAPTURE, make_radiograph
from tests.presence import real_radiographs

RULES = Eligibility(minimum_age_years=18, maximum_pixels=1_000_000)
CT = "1.2.840.10008.5.1.4.1.1.2"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
LEFT_LATERAL = Dataset()
LEFT_LATERAL.CodeValue, LEFT_LATERAL.CodingSchemeDesignator = "399173006", "SCT"
LEFT_LATERAL.CodeMeaning = "left lateral"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, ""),
        ({"sop_class": CR}, ""),
        ({"sop_class": DX_FOR_PROCESSING}, "for processing, not for presentation"),
        ({"sop_class": SECONDARY_CAPTURE}, "modality OT"),
        ({"sop_class": SECONDARY_CAPTURE, "Modality": "DX"}, "a derived image"),
        ({"sop_class": SECONDARY_CAPTURE, "Modality": "DX", "ImageType": None}, ""),
        ({"SOPClassUID": CT}, "not a radiograph"),
        ({"SOPClassUID": ENCAPSULATED_PDF}, "not a radiograph"),
        ({"Modality": None}, "modality unknown"),
        ({"ViewPosition": "AP"}, ""),
        ({"ViewPosition": "LL"}, "lateral view LL"),
        ({"ViewPosition": None, "ViewCodeSequence": [LEFT_LATERAL]}, "lateral view"),
        ({"ViewPosition": "RAO"}, "view RAO"),
        ({"ViewPosition": None, "ViewCodeSequence": None}, ""),
        ({"BodyPartExamined": "HAND"}, "body part HAND"),
        ({"BodyPartExamined": "PORT CHEST"}, ""),
        ({"BodyPartExamined": None}, ""),
        ({"Rows": 0}, "no pixels: 0 rows, 48 columns"),
        ({"Rows": 60_000, "Columns": 60_000}, "too many pixels: 60000 rows, 60000 columns"),
        ({"NumberOfFrames": 7}, "more than one frame"),
        ({"PatientBirthDate": "20200103", "PatientAge": "055Y"}, "patient is 4 years old, below 18"),
        ({"PatientBirthDate": "20070102", "PatientAge": None}, ""),
        ({"PatientBirthDate": "20070110", "PatientAge": None}, "patient is 17 years old, below 18"),
        ({"PatientBirthDate": "", "PatientAge": "006M"}, "patient is 0 years old, below 18"),
        ({"PatientBirthDate": "", "PatientAge": ""}, ""),
        ({"PatientBirthDate": "19000101", "StudyDate": "18000101", "PatientAge": "019Y"}, ""),
    ],
)
def test_the_reason_against_a_header(attributes: dict[str, Any], reason: str) -> None:
    assert RULES.reason_against(make_radiograph(**attributes)) == reason


def test_an_empty_header_is_no_radiograph() -> None:
    assert RULES.reason_against(Dataset()) == "not a radiograph"


def test_other_rules_have_another_digest() -> None:
    digests = {Eligibility(age, pixels).digest for age in (0, 18) for pixels in (1, 2)}
    assert len(digests) == 4
    assert Eligibility(18, 1).digest == Eligibility(18.0, 1).digest


def test_every_real_radiograph_is_analysed() -> None:
    rules = Eligibility(minimum_age_years=18, maximum_pixels=100_000_000)
    reasons = {
        path.name: rules.reason_against(dcmread(path, stop_before_pixels=True)) for path in real_radiographs()
    }
    assert set(reasons.values()) == {""}, reasons
