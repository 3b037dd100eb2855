"""From an analysis's findings to DICOM objects in the archive."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

from pydicom import Dataset, dcmread

from litegpt.identity import ModelIdentity
from service.archive import Archive
from service.records.analyses import Claim, ImageOutcome, WrittenResult
from service.records.database import utc_now
from service.settings import Settings
from worker.results.identity import ResultIdentity
from worker.results.structured_report import (
    SOP_CLASS_UID,
    TEMPLATE_VERSION,
    ImageReading,
    ReportingDevice,
    encode,
    structured_report,
)

STRUCTURED_REPORT = "sr"


def make_results(
    claim: Claim,
    outcomes: Sequence[ImageOutcome],
    model: ModelIdentity,
    settings: Settings,
    archive: Archive,
) -> list[WrittenResult]:
    """Makes an analysis's results and writes them into the archive; for now one Structured Report.

    Args:
        claim: The analysis.
        outcomes: What became of each of its images, in their order.
        model: Who read them.
        settings: The node's, for its name and time zone.
        archive: Where the images are, and the results go.

    Raises:
        OutOfResources: If the archive would not take a result.
        ValueError: If the images cannot be reported on.
    """
    patient_header = _header(archive, claim.patient_header_path)
    identity = ResultIdentity.of(
        study_instance_uid=claim.study_instance_uid,
        input_digest=claim.input_digest,
        model=model,
        settings_digest=claim.settings_digest,
        kind=STRUCTURED_REPORT,
        sop_class_uid=SOP_CLASS_UID,
        template_version=TEMPLATE_VERSION,
        patient_header=patient_header,
    )
    report = structured_report(
        [
            ImageReading(_header(archive, image.header_path), outcome.findings, outcome.not_read or None)
            for image, outcome in zip(claim.images, outcomes, strict=True)
        ],
        identity=identity,
        algorithm=model,
        device=_device(settings, archive),
        created_at=utc_now(),
        time_zone=settings.zone,
        patient_header=patient_header,
        predecessors=[_header(archive, before.path) for before in claim.predecessors],
    )
    return [_write(archive, claim, report)]


def _write(archive: Archive, claim: Claim, report: Dataset) -> WrittenResult:
    content = encode(report)
    return WrittenResult(
        kind=STRUCTURED_REPORT,
        sop_class_uid=str(report.SOPClassUID),
        sop_instance_uid=str(report.SOPInstanceUID),
        template_version=TEMPLATE_VERSION,
        path=archive.write_result(content, claim.study_instance_uid, str(report.SOPInstanceUID)),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _header(archive: Archive, relative: str) -> Dataset:
    return dcmread(archive.absolute(relative), stop_before_pixels=True)


def _device(settings: Settings, archive: Archive) -> ReportingDevice:
    return ReportingDevice(
        ae_title=settings.ae_title,
        station_uid=archive.station_uid(),
        software_version=version("litegpt-node"),
    )
