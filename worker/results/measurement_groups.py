"""Measurement groups of TID 1500: what was found in one image, in the form that viewers draw.

A box is a TID 1410 group with its region and no measurement of its own: a bare NUM there keeps OHIF from
drawing the box. Its certainty stands in a second, TID 1501 group with the same Tracking Unique Identifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.vocabulary import NO_FINDING
from worker.results import codes
from worker.results.identity import ResultIdentity
from worker.results.reading import MANUFACTURER, ImageReading

_RECTANGLE: Final = "Cornerstone3DTools@^0.1.0:RectangleROI"
"""The tool by which OHIF, of every version tried, knows a polyline for a rectangle."""

Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


class MeasurementGroups:
    """Makes the groups of one report; numbers the findings through all of its images."""

    def __init__(self, identity: ResultIdentity, algorithm: ModelIdentity) -> None:
        self._identity = identity
        self._algorithm = algorithm
        self._number = 0

    def of_image(self, reading: ImageReading, source: Dataset) -> Iterator[Group]:
        """All groups of an image that was read.

        Args:
            reading: What was found.
            source: The image, as ``source_image`` gives it.

        Raises:
            ValueError: If a box lies outside the image.
        """
        for finding in reading.positive:
            self._number += 1
            if finding.box is None:
                yield self._diagnosis(finding, source)
            else:
                yield self._region(finding, source)
                yield self._certainty(finding, source)
        if not reading.positive:
            self._number += 1
            yield self._nothing_found(reading.no_finding, source)

    def of_failure(self, sources: list[Dataset]) -> Group:
        """The group of a report in which no image could be read: it must have one."""
        return self._group(
            sr.TrackingIdentifier(uid=self._identity.uid("failure"), identifier="Not read"),
            sources,
            "No image could be read",
            evaluation=codes.findings_summary(read=0, failed=len(sources), findings=False),
        )

    def _region(self, finding: Finding, source: Dataset) -> Group:
        label = codes.label_codes(finding.label)
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(
                finding, source, f"{_RECTANGLE}:{finding.label} {self._number}"
            ),
            referenced_region=_image_region(finding, source),
            finding_type=label.finding,
            finding_category=codes.ABNORMAL_STRUCTURE,
            finding_sites=[sr.FindingSite(label.site)],
            geometric_purpose=codes.BOUNDED_BY,
            algorithm_id=self._algorithm_identification(),
        )
        _comment(group, _caption(finding))
        return group

    def _certainty(self, finding: Finding, source: Dataset) -> Group:
        return self._group(
            self._tracking(finding, source, f"{finding.label} {self._number}"),
            [source],
            comment=None,
            finding=finding,
        )

    def _diagnosis(self, finding: Finding, source: Dataset) -> Group:
        return self._group(
            self._tracking(finding, source, f"{finding.label} {self._number}"),
            [source],
            _caption(finding),
            finding=finding,
        )

    def _nothing_found(self, said: Finding | None, source: Dataset) -> Group:
        finding = said or Finding(NO_FINDING, 1.0)
        return self._group(
            self._tracking(finding, source, NO_FINDING),
            [source],
            _caption(said) if said else NO_FINDING,
            finding=said,
            evaluation=codes.findings_summary(read=1, failed=0, findings=False),
        )

    def _group(
        self,
        tracking: sr.TrackingIdentifier,
        sources: list[Dataset],
        comment: str | None,
        *,
        finding: Finding | None = None,
        evaluation: Code | None = None,
    ) -> Group:
        """A TID 1501 group: statements about whole images."""
        label = codes.label_codes(finding.label) if finding else None
        group = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=label.finding if label else None,
            finding_sites=[sr.FindingSite(label.site)] if label else None,
            algorithm_id=self._algorithm_identification(),
            measurements=[_certainty_measurement(finding.score)] if finding else None,
            qualitative_evaluations=(
                [sr.QualitativeEvaluation(codes.FINDINGS_SUMMARY, evaluation)] if evaluation else None
            ),
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source) for source in sources],
        )
        if comment:
            _comment(group, comment)
        return group

    def _tracking(self, finding: Finding, source: Dataset, identifier: str) -> sr.TrackingIdentifier:
        uid = self._identity.uid("finding", source.SOPInstanceUID, str(self._number), finding.label)
        return sr.TrackingIdentifier(uid=uid, identifier=identifier)

    def _algorithm_identification(self) -> sr.AlgorithmIdentification:
        return sr.AlgorithmIdentification(
            name=self._algorithm.id, version=self._algorithm.version, manufacturer=MANUFACTURER
        )


def _image_region(finding: Finding, source: Dataset) -> sr.ImageRegion:
    """The box as a closed polyline: top left, top right, bottom right, bottom left, top left.

    Our boxes and SCOORD share their coordinates: pixel edges, (column, row) (PS3.3 C.18.6.1.2).
    """
    assert finding.box is not None  # the caller's own branch, not outside data
    box = finding.box.clipped(int(source.Columns), int(source.Rows))
    corners = np.array(  # (points, 2)
        [
            (box.x_min, box.y_min),
            (box.x_max, box.y_min),
            (box.x_max, box.y_max),
            (box.x_min, box.y_max),
            (box.x_min, box.y_min),
        ]
    )
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=corners,
        source_image=sr.SourceImageForRegion.from_source_image(source),
    )


def _certainty_measurement(score: float) -> sr.Measurement:
    return sr.Measurement(name=codes.CERTAINTY, value=round(score * 100, 1), unit=codes.PERCENT)


def _comment(group: Group, text: str) -> None:
    group[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.COMMENT, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
    )


def _caption(finding: Finding) -> str:
    return f"{finding.label} {finding.score:.2f}"
