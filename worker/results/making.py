"""From an analysis's findings to DICOM objects in the archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from pydicom import Dataset, dcmread

from litegpt.identity import ModelIdentity
from litegpt.radiograph import read_radiograph
from service.archive import Archive
from service.records.analyses import Claim, ImageOutcome, WrittenResult
from service.records.database import utc_now
from service.settings import ResultKind, Settings
from worker.results import secondary_capture, structured_report
from worker.results.identity import ResultIdentity
from worker.results.part10 import encode
from worker.results.reading import ImageReading, ReportingDevice


def make_results(
    claim: Claim,
    outcomes: Sequence[ImageOutcome],
    model: ModelIdentity,
    settings: Settings,
    archive: Archive,
) -> list[WrittenResult]:
    """Makes the results of an analysis that some destination wants, and writes them into the archive.

    Args:
        claim: The analysis.
        outcomes: What became of each of its images, in their order.
        model: Who read them.
        settings: The node's, for its name and time zone, and for what is wanted.
        archive: Where the images are, and the results go.

    Raises:
        OutOfResources: If the archive would not take a result.
        RadiographError: If an image cannot be drawn any more.
        ValueError: If the images cannot be reported on.
    """
    maker = _Maker(claim, outcomes, model, settings, archive)
    makers = {
        ResultKind.STRUCTURED_REPORT: maker.structured_report,
        ResultKind.SECONDARY_CAPTURE: maker.secondary_captures,
    }
    return [result for kind in settings.result_kinds for result in makers[kind]()]


class _Maker:
    """Makes the results of one analysis, all at the same time of the same day."""

    def __init__(
        self,
        claim: Claim,
        outcomes: Sequence[ImageOutcome],
        model: ModelIdentity,
        settings: Settings,
        archive: Archive,
    ) -> None:
        self._claim, self._model, self._settings, self._archive = claim, model, settings, archive
        self._patient_header = self._header(claim.patient_header_path)
        self._readings = [
            ImageReading(self._header(image.header_path), outcome.findings, outcome.not_read or None)
            for image, outcome in zip(claim.images, outcomes, strict=True)
        ]
        self._device = ReportingDevice(
            ae_title=settings.ae_title,
            station_uid=archive.station_uid(),
            software_version=version("litegpt-node"),
        )
        self._created_at = utc_now()

    def structured_report(self) -> Iterator[WrittenResult]:
        """The report of the study."""
        kind = ResultKind.STRUCTURED_REPORT
        yield self._write(
            kind,
            structured_report.TEMPLATE_VERSION,
            structured_report.structured_report(
                self._readings,
                identity=self._identity(
                    kind, structured_report.SOP_CLASS_UID, structured_report.TEMPLATE_VERSION
                ),
                algorithm=self._model,
                device=self._device,
                created_at=self._created_at,
                time_zone=self._settings.zone,
                patient_header=self._patient_header,
                predecessors=[self._header(before.path) for before in self._claim.predecessors],
            ),
        )

    def secondary_captures(self) -> Iterator[WrittenResult]:
        """A picture of each image that was read."""
        kind = ResultKind.SECONDARY_CAPTURE
        identity = self._identity(kind, secondary_capture.SOP_CLASS_UID, secondary_capture.TEMPLATE_VERSION)
        number = 0
        for image, reading in zip(self._claim.images, self._readings, strict=True):
            if reading.not_read is not None:
                continue
            number += 1
            capture = secondary_capture.secondary_capture(
                reading,
                read_radiograph(
                    self._archive.absolute(image.path), maximum_pixels=self._settings.maximum_pixels
                ),
                instance_number=number,
                identity=identity,
                algorithm=self._model,
                device=self._device,
                created_at=self._created_at,
                time_zone=self._settings.zone,
                patient_header=self._patient_header,
            )
            yield self._write(kind, secondary_capture.TEMPLATE_VERSION, capture)

    def _identity(self, kind: ResultKind, sop_class_uid: str, template_version: str) -> ResultIdentity:
        return ResultIdentity.of(
            study_instance_uid=self._claim.study_instance_uid,
            input_digest=self._claim.input_digest,
            model=self._model,
            settings_digest=self._claim.settings_digest,
            kind=kind,
            sop_class_uid=sop_class_uid,
            template_version=template_version,
            patient_header=self._patient_header,
        )

    def _write(self, kind: ResultKind, template_version: str, result: Dataset) -> WrittenResult:
        content = encode(result)
        uid = str(result.SOPInstanceUID)
        return WrittenResult(
            kind=kind,
            sop_class_uid=str(result.SOPClassUID),
            sop_instance_uid=uid,
            template_version=template_version,
            path=self._archive.write_result(content, self._claim.study_instance_uid, uid),
            digest=hashlib.sha256(content).hexdigest(),
        )

    def _header(self, relative: str) -> Dataset:
        return dcmread(self._archive.absolute(relative), stop_before_pixels=True)
