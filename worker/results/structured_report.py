"""The Structured Report of an analysis: TID 1500, after IHE AIR (Rev 1.3).

Comprehensive 3D SR, or Comprehensive SR with the same content for destinations that take only that.

What it says: the images read, a region per finding, diagnoses of whole images, "No finding" where nothing was
found, which images were not read and why, which model spoke, and that nobody has verified it. The same input
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian

from worker.results import codes
from worker.results.evaluations import evaluations
from worker.results.identity import ResultIdentity
from worker.results.measurement_groups import measurement_groups
from worker.results.patient_study import referenced_requests
from worker.results.provenance import Provenance
from worker.results.reading import MANUFACTURER, ImageReading, ReportingDevice
from worker.results.source_image import source_image

TEMPLATE_VERSION: Final = "3"
"""Part of a result's identity: counted up whenever the same reading is told in another form."""

SOP_CLASS_UID: Final = Comprehensive3DSRStorage
"""Of the report that is tried first."""

_CLASSES: Final[Mapping[str, type[sr.Comprehensive3DSR | sr.ComprehensiveSR]]] = {
    Comprehensive3DSRStorage: sr.Comprehensive3DSR,
    ComprehensiveSRStorage: sr.ComprehensiveSR,
}


def structured_report(
    readings: Sequence[ImageReading],
    *,
    identity: ResultIdentity,
    provenance: Provenance,
    other_images: Sequence[ImageReading] = (),
    predecessors: Sequence[Dataset] = (),
) -> Dataset:
    """Writes the report of one analysis.

    Args:
        readings: The images that were to be read, of one study, in the order in which the report tells them.
        identity: Names the report; its SOP class is Comprehensive 3D SR or Comprehensive SR.
        provenance: Who read, when, and of whom the study is.
        other_images: Images of the study that were not meant to be read, each with its reason.
        predecessors: Reports already delivered that this one replaces (PS3.3 C.17.2, Predecessor Documents).

    Returns:
        The report, Explicit VR Little Endian; ``part10.encode`` gives its bytes.

    Raises:
        ValueError: If there is nothing to report on, an image is of another study or lacks its UIDs, or a box
            lies outside its image.
    """
    if not readings:
        raise ValueError("a report needs at least one image")
    sources = [source_image(reading.header, identity.study_instance_uid) for reading in readings]
    requests = referenced_requests([reading.header for reading in readings], identity.study_instance_uid)
    title, content = _content(readings, sources, other_images, identity, provenance)
    root = sr.ContainerContentItem(name=title, template_id="1500")
    root.ContentSequence = sr.ContentSequence()
    report: Dataset = _CLASSES[identity.sop_class_uid](
        evidence=sources,
        content=root,
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        series_description=provenance.series_description(readings),
        sop_instance_uid=identity.sop_instance_uid,
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=requests or None,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=codes.PRIVATE_SCHEME,
                name=codes.PRIVATE_SCHEME_NAME,
                responsible_organization=MANUFACTURER,
            )
        ],
        previous_versions=list(predecessors) or None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **provenance.equipment,
    )
    # Not before: highdicom would copy it, and go through it to find the images that are its evidence anyhow.
    report.ContentSequence = content
    provenance.write_into(report)
    return report


def _content(
    readings: Sequence[ImageReading],
    sources: Sequence[Dataset],
    other_images: Sequence[ImageReading],
    identity: ResultIdentity,
    provenance: Provenance,
) -> tuple[Code, sr.ContentSequence]:
    """The content tree: what TID 1500's root container is called, and has in it.

    Put together from highdicom's templates: its ``MeasurementReport`` insists on measurement groups and has
    no Qualitative Evaluations. A report without any measurement is not called a measurement report (CID 7021
    is extensible): under that title OHIF shows an error instead of the text.
    """
    content = sr.ContentSequence()
    content.extend(sr.LanguageOfContentItemAndDescendants(sr.CodedConcept.from_code(codes.ENGLISH)))
    content.extend(sr.ObservationContext(observer_device_context=_observer(provenance.device)))
    content.append(
        sr.CodeContentItem(
            name=codes.PROCEDURE_REPORTED,
            value=codes.PLAIN_CHEST_RADIOGRAPH,
            relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
    )
    pairs = zip(readings, sources, strict=True)
    read = [(reading, source) for reading, source in pairs if reading.not_read is None]
    if read:
        content.extend(sr.ImageLibrary([source for _, source in read]))
    groups = list(measurement_groups(read, identity, provenance.algorithm))
    if groups:
        measurements = sr.ContainerContentItem(
            name=codes.IMAGING_MEASUREMENTS, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        measurements.ContentSequence = sr.ContentSequence([item for group in groups for item in group])
        content.append(measurements)
    content.append(evaluations(readings, sources, other_images, provenance.algorithm))
    title = codes.IMAGING_MEASUREMENT_REPORT if groups else codes.DIAGNOSTIC_IMAGING_REPORT
    return title, content


def _observer(device: ReportingDevice) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=sr.CodedConcept.from_code(codes.DEVICE),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device.station_uid,
            name=device.ae_title,
            manufacturer_name=device.manufacturer,
            model_name=device.model_name,
        ),
    )
