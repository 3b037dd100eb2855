"""Measurement groups of TID 1500: findings that have a place in an image, in the form that viewers draw.

A box is a TID 1410 group with its region and no measurement of its own: a bare NUM there keeps OHIF from
drawing the box. Its certainty stands in a second, TID 1501 group with the same Tracking Unique Identifier.

Statements about a whole image are no groups (see ``evaluations``): over a group whose tracking identifier
belongs to no region OHIF shows an error, and no boxes (3.12.10, ``_checkIfCanAddMeasurementsToDisplaySet``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from highdicom import sr
from pydicom.dataset import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from worker.results import codes
from worker.results.evaluations import algorithm_identification, caption, comment, percent
from worker.results.identity import ResultIdentity
from worker.results.laterality import laterality
from worker.results.reading import ImageReading
from worker.results.source_image import patient_orientation

_RECTANGLE: Final = "Cornerstone3DTools@^0.1.0:RectangleROI"
"""The tool by which OHIF, of every version tried, knows a polyline for a rectangle."""

Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def measurement_groups(
    images: list[tuple[ImageReading, Dataset]], identity: ResultIdentity, algorithm: ModelIdentity
) -> Iterator[Group]:
    """Two groups for each finding with a box, numbered through all images.

    Args:
        images: The images read, each with its source image as ``source_image`` gives it.
        identity: Names the report; the tracking identifiers are derived from it.
        algorithm: The model that found them.

    Raises:
        ValueError: If a box lies outside its image.
    """
    number = 0
    for reading, source in images:
        for finding in reading.positive:
            if finding.box is None:
                continue
            number += 1
            uid = identity.uid("finding", source.SOPInstanceUID, str(number), finding.label)
            name = f"{finding.label} {number}"
            region = _image_region(finding.box, source)
            side = laterality(finding.box, source.Columns, source.Rows, patient_orientation(reading.header))
            known = codes.label_codes(finding.label)
            site = sr.FindingSite(known.site, laterality=side if known.is_paired else None)
            tracking = sr.TrackingIdentifier(uid, f"{_RECTANGLE}:{name}")
            yield _region(finding, site, region, tracking, algorithm)
            yield _certainty(finding, site, source, sr.TrackingIdentifier(uid, name), algorithm)


def _region(
    finding: Finding,
    site: sr.FindingSite,
    region: sr.ImageRegion,
    tracking: sr.TrackingIdentifier,
    algorithm: ModelIdentity,
) -> Group:
    label = codes.label_codes(finding.label)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=region,
        finding_type=label.finding,
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_sites=[site],
        geometric_purpose=codes.BOUNDED_BY,
        algorithm_id=algorithm_identification(algorithm),
    )
    group[0].ContentSequence.append(comment(caption(finding)))
    return group


def _certainty(
    finding: Finding,
    site: sr.FindingSite,
    source: Dataset,
    tracking: sr.TrackingIdentifier,
    algorithm: ModelIdentity,
) -> Group:
    label = codes.label_codes(finding.label)
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        finding_type=label.finding,
        finding_sites=[site],
        measurements=[sr.Measurement(codes.CERTAINTY, percent(finding.score), codes.PERCENT)],
        algorithm_id=algorithm_identification(algorithm),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source)],
    )


def _image_region(box: Box, source: Dataset) -> sr.ImageRegion:
    """Our boxes and SCOORD share their coordinates: pixel edges, (column, row) (PS3.3 C.18.6.1.2)."""
    box = box.clipped(int(source.Columns), int(source.Rows))
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=outline(box),
        source_image=sr.SourceImageForRegion.from_source_image(source),
    )


def outline(box: Box) -> npt.NDArray[np.float64]:
    """A box as a closed polyline, (5, 2): top left, top right, bottom right, bottom left, top left."""
    left, top, right, bottom = box.x_min, box.y_min, box.x_max, box.y_max
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], np.float64)
