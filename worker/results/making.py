"""From an analysis's findings to DICOM objects."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Final, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from litegpt.attributes import MALFORMED
from litegpt.errors import RadiographError, one_line
from litegpt.identity import ModelIdentity
from litegpt.radiograph import Radiograph, read_radiograph
from service.archive import Archive
from service.errors import OutOfResources
from service.peers import ResultKind
from service.records.claims import Claim, ClaimedImage
from service.records.conclusions import Concluded, ImageOutcome, WrittenResult
from service.records.database import utc_now
from service.settings import Settings
from worker.errors import CannotReport
from worker.results import presentation_state, secondary_capture, structured_report
from worker.results.identity import ResultIdentity
from worker.results.part10 import encode
from worker.results.provenance import Provenance
from worker.results.reading import ImageReading, ReportingDevice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResultSettings:
    """What of the node's settings its results depend on; no password goes where they are made."""

    ae_title: str
    zone: ZoneInfo
    maximum_pixels: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of a node."""
        return cls(settings.ae_title, settings.zone, settings.maximum_pixels)


@dataclass(frozen=True, slots=True)
class MadeResult:
    """A result that lies under ``incoming/`` and is not the archive's yet.

    Attributes:
        file: The Part 10 file. Not its content, of which a study with many pictures has gigabytes.
        digest: SHA-256 of the file.
    """

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    template_version: str
    file: Path
    digest: str

    def taken(self, archive: Archive, study_instance_uid: str) -> WrittenResult:
        """Has the archive take it, durably.

        Raises:
            OutOfResources: If it would not.
        """
        return WrittenResult(
            kind=self.kind,
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            template_version=self.template_version,
            path=archive.take_result(self.file, study_instance_uid, self.sop_instance_uid, self.digest),
            digest=self.digest,
        )


def make_results(
    claim: Claim,
    outcomes: Sequence[ImageOutcome],
    wanted: Sequence[ResultKind],
    settings: ResultSettings,
    archive: Archive,
) -> list[MadeResult]:
    """Makes the results of an analysis that are wanted, each laid down under ``incoming/``.

    An image that cannot be drawn any more has no picture and no presentation state; the report still tells
    what was found in it. Where no image could be read, the report says so, and is all there is.

    Args:
        claim: The analysis.
        outcomes: What became of each of its images, in their order.
        wanted: Which kinds.
        settings: The node's.
        archive: Where the images are, and the results go.

    Raises:
        OutOfResources: If the archive would not take a result, or not give an image.
        CannotReport: If the images cannot be reported on, or nothing that is wanted can be made of them.
    """
    maker = _Maker(claim, outcomes, claim.model, utc_now(), settings, archive)
    results: list[MadeResult] = []
    if ResultKind.STRUCTURED_REPORT in wanted:
        results.append(maker.structured_report(structured_report.SOP_CLASS_UID))
    failures: list[CannotReport] = []
    for make in maker.of_images([kind for kind in wanted if kind in _OF_IMAGES]):
        try:
            results += make()
        except CannotReport as error:
            log.warning("study %s: an image is not drawn: %s", claim.study_instance_uid, error)
            failures.append(error)
    if failures and not results:
        raise CannotReport("; ".join(map(str, failures)))
    return results


def make_again(
    concluded: Concluded, kind: ResultKind, sop_class_uid: str, settings: Settings, archive: Archive
) -> list[WrittenResult]:
    """Makes results of another kind or SOP class of an analysis that is done, and writes them.

    Args:
        concluded: The analysis; the results' time is that of its end, so that they are the same each time.
        kind: Which.
        sop_class_uid: Of a report.
        settings: The node's.
        archive: Where the images are, and the results go.

    Raises:
        OutOfResources: If the archive would not take a result, or not give an image.
        CannotReport: If the images cannot be reported on, or one of them cannot be drawn any more.
    """
    finished, model = concluded.finished_at, concluded.model
    own = ResultSettings.of(settings)
    maker = _Maker(concluded.claim, concluded.outcomes, model, finished, own, archive)
    if kind is ResultKind.STRUCTURED_REPORT:
        made = [maker.structured_report(sop_class_uid)]
    else:
        made = [result for make in maker.of_images([kind]) for result in make()]
    return [one.taken(archive, concluded.claim.study_instance_uid) for one in made]


class _MakeOfImage(Protocol):
    def __call__(
        self,
        reading: ImageReading,
        radiograph: Radiograph,
        *,
        instance_number: int,
        identity: ResultIdentity,
        provenance: Provenance,
    ) -> Dataset: ...


class _OfImage(NamedTuple):
    """A kind of result of which each image has its own."""

    make: _MakeOfImage
    sop_class_uid: str
    template_version: str


_OF_IMAGES: Final = {
    ResultKind.PRESENTATION_STATE: _OfImage(
        presentation_state.presentation_state,
        presentation_state.SOP_CLASS_UID,
        presentation_state.TEMPLATE_VERSION,
    ),
    ResultKind.SECONDARY_CAPTURE: _OfImage(
        secondary_capture.secondary_capture,
        secondary_capture.SOP_CLASS_UID,
        secondary_capture.TEMPLATE_VERSION,
    ),
}


class _Maker:
    """Makes the results of one analysis, all at the same time of the same day."""

    def __init__(
        self,
        claim: Claim,
        outcomes: Sequence[ImageOutcome],
        model: ModelIdentity,
        created_at: datetime,
        settings: ResultSettings,
        archive: Archive,
    ) -> None:
        self._claim, self._settings, self._archive = claim, settings, archive
        self._readings = [
            ImageReading(self._header(image.header_path), outcome.findings, outcome.not_read or None)
            for image, outcome in zip(claim.images, outcomes, strict=True)
        ]
        reasons = [outcome.not_read for outcome in outcomes]
        self._not_read = reasons if all(reasons) else []
        self._provenance = Provenance(
            algorithm=model,
            device=ReportingDevice(
                ae_title=settings.ae_title,
                station_uid=archive.station_uid(),
                software_version=version("litegpt-node"),
            ),
            created_at=created_at,
            time_zone=settings.zone,
            patient_header=self._header(claim.patient_header_path),
        )

    def structured_report(self, sop_class_uid: str) -> MadeResult:
        """The report of the study; those that it replaces are of the same SOP class (PS3.3 C.17.2)."""
        kind, template = ResultKind.STRUCTURED_REPORT, structured_report.TEMPLATE_VERSION
        predecessors = [
            self._header(before.path)
            for before in self._claim.predecessors
            if before.sop_class_uid == sop_class_uid
        ]
        with _reporting():
            report = structured_report.structured_report(
                self._readings,
                identity=self._identity(kind, sop_class_uid, template),
                provenance=self._provenance,
                other_images=[
                    ImageReading(_named(other.sop_instance_uid), not_read=other.reason)
                    for other in self._claim.other_images
                ],
                predecessors=predecessors,
            )
        return self._lay_down(kind, template, report)

    def of_images(self, kinds: Sequence[ResultKind]) -> Iterator[Callable[[], list[MadeResult]]]:
        """For each image that was read, what makes the kinds of it that are wanted."""
        if not kinds:
            return
        pairs = zip(self._claim.images, self._readings, strict=True)
        read = [(image, reading) for image, reading in pairs if reading.not_read is None]
        for number, (image, reading) in enumerate(read, start=1):
            yield partial(self._of_image, image, reading, number, kinds)

    def _of_image(
        self, image: ClaimedImage, reading: ImageReading, number: int, kinds: Sequence[ResultKind]
    ) -> list[MadeResult]:
        """The kinds of one image; a colour image has no presentation state."""
        radiograph = self._radiograph(image)
        results = []
        for kind in kinds:
            if kind is ResultKind.PRESENTATION_STATE and radiograph.grayscale is None:
                continue
            make, sop_class_uid, template = _OF_IMAGES[kind]
            with _reporting():
                made = make(
                    reading,
                    radiograph,
                    instance_number=number,
                    identity=self._identity(kind, sop_class_uid, template),
                    provenance=self._provenance,
                )
            results.append(self._lay_down(kind, template, made))
        return results

    def _identity(self, kind: ResultKind, sop_class_uid: str, template_version: str) -> ResultIdentity:
        return ResultIdentity.of(
            study_instance_uid=self._claim.study_instance_uid,
            input_digest=self._claim.input_digest,
            model=self._provenance.algorithm,
            settings_digest=self._claim.settings_digest,
            kind=kind,
            sop_class_uid=sop_class_uid,
            template_version=template_version,
            patient_header=self._provenance.patient_header,
            not_read=self._not_read,
        )

    def _lay_down(self, kind: ResultKind, template_version: str, result: Dataset) -> MadeResult:
        content = encode(result)
        return MadeResult(
            kind=kind,
            sop_class_uid=str(result.SOPClassUID),
            sop_instance_uid=str(result.SOPInstanceUID),
            template_version=template_version,
            file=self._archive.lay_down(content),
            digest=hashlib.sha256(content).hexdigest(),
        )

    def _header(self, relative: str) -> Dataset:
        try:
            return dcmread(self._archive.absolute(relative), stop_before_pixels=True)
        except (InvalidDicomError, *MALFORMED, OSError) as error:
            raise self._unreadable(relative, error) from error

    def _radiograph(self, image: ClaimedImage) -> Radiograph:
        path, most = self._archive.absolute(image.path), self._settings.maximum_pixels
        try:
            return read_radiograph(path, maximum_pixels=most)
        except (RadiographError, OSError) as error:
            raise self._unreadable(image.path, error) from error

    def _unreadable(self, relative: str, error: Exception) -> CannotReport | OutOfResources:
        """What a file that cannot be read means; pydicom raises OSErrors without a number over content."""
        name = PurePath(relative).name
        if isinstance(error, FileNotFoundError) and self._archive.is_there:
            return CannotReport(f"{name} is gone from the archive")
        if isinstance(error, OSError) and error.errno is not None:
            return OutOfResources(f"the archive: {error.strerror}")
        return CannotReport(f"{name}: {one_line(error)}")


def _named(sop_instance_uid: str) -> Dataset:
    """The header of an image of which no more is told than its name."""
    header = Dataset()
    header.SOPInstanceUID = sop_instance_uid
    return header


@contextmanager
def _reporting() -> Iterator[None]:
    """Says as an error of the node that a result cannot be made of what it should be made of."""
    try:
        yield
    except ValueError as error:
        raise CannotReport(one_line(error)) from error
