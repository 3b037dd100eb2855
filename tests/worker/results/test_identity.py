"""Names of results: stable, told apart by everything that makes a result another one, and valid UIDs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from pydicom.uid import UID

from service.peers import ResultKind
from tests.images import make_radiograph
from worker.results.identity import ResultIdentity, derived_uid
from worker.results.patient_study import patient_header_digest

REPORT = ResultKind.STRUCTURED_REPORT
IDENTITY = ResultIdentity("1.2.3", "images", "model", "1", "settings", REPORT, "1.2.840", "1", "header")


def test_derived_uids_are_version_5_uuids() -> None:
    # RFC 9562, worked from its text: SHA-1 of namespace and name, then version and variant bits
    namespace = bytes.fromhex("6f0c5e543c0f5e0a9a550c1b7b6f3d21")
    digest = bytearray(hashlib.sha1(namespace + json.dumps(["a", "b"]).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert derived_uid("a", "b") == f"2.25.{int.from_bytes(digest)}"
    assert derived_uid("a", "b") != derived_uid("ab", "")


@pytest.mark.parametrize("attribute", [name for name in ResultIdentity.__slots__ if name != "kind"])
def test_whatever_differs_makes_another_result(attribute: str) -> None:
    other = replace(IDENTITY, **{attribute: "something else"})
    assert other.sop_instance_uid != IDENTITY.sop_instance_uid
    assert other.series_instance_uid != IDENTITY.series_instance_uid


def test_uids_of_one_result_differ_and_are_valid() -> None:
    uids = {IDENTITY.sop_instance_uid, IDENTITY.series_instance_uid, IDENTITY.uid("finding", "1")}
    assert len(uids) == 3
    assert all(UID(uid).is_valid for uid in uids)


def test_only_what_a_result_carries_counts_in_the_header() -> None:
    image = make_radiograph()
    digest = patient_header_digest(image)
    image.SOPInstanceUID, image.WindowCenter, image.Manufacturer = "1.2.3", "7", "Other"
    assert patient_header_digest(image) == digest
    image.PatientName = "Test^Corrected"
    assert patient_header_digest(image) != digest
