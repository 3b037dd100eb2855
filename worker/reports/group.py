"""A measurement group (TID 1410, 1411, 1501): one finding with all that a report says of it.

Writers differ: a region stands in its group or under a measurement (Cornerstone), is a segment of another
object (dcmqi), or lies beside graphics that only place a label (Cornerstone, dwv); certainty stands in a
group of its own with the same tracking UID (ours), sites in SNOMED CT or SNOMED RT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom import Dataset

from worker.reports.content_items import (
    MEASUREMENT_GROUP,
    children,
    code,
    images,
    is_segmentation,
    kind,
    name,
    number,
    referenced,
    referenced_instance,
    told,
    value,
)
from worker.reports.regions import Region

_TRACKING_IDENTIFIER: Final = "112039"
_TRACKING_UID: Final = "112040"
_FINDING: Final = "121071"
_SITES: Final = frozenset({"363698007", "G-C0E3"})
_LATERALITY: Final = frozenset({"272741003", "G-C171"})
_COMMENT: Final = "121106"
_CERTAINTY: Final = "111012"
_DERIVATION: Final = "121401"
_ALGORITHM: Final = ("111001", "111003")
"""Name and version."""
_AIDS: Final = frozenset({"TextPosition", "ControlPoints", "122438", "128773"})
"""Graphics that are no region: of Cornerstone (99CS3D); of dwv Reference Points, Reference Geometry (DCM)."""
_PLACES: Final = frozenset({"SCOORD", "SCOORD3D", "IMAGE"})


@dataclass
class Group:
    """A finding with all that a report says of it.

    Attributes:
        tracking_uid: Tracking Unique Identifier; empty where there is none.
        tracking_identifier: For people and viewers.
        finding, site, laterality: Code meanings; empty where not said.
        regions: Where it is.
        not_drawn: Where it is too, in a form that is not drawn: segmentations, graphics in space.
        images: SOP Instance UIDs of the images that it is about or was selected from.
        certainty: Percent.
        measurements: (name, value, unit); what qualifies a measurement stands in brackets after its name.
        comments: Texts.
        evaluations: Whatever else stands there, a line each.
        algorithm: Name and version.
    """

    tracking_uid: str = ""
    tracking_identifier: str = ""
    finding: str = ""
    site: str = ""
    laterality: str = ""
    regions: list[Region] = field(default_factory=list)
    not_drawn: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    certainty: float | None = None
    measurements: list[tuple[str, str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    evaluations: list[str] = field(default_factory=list)
    algorithm: str = ""

    @property
    def name(self) -> str:
        """What it is, and where in the body."""
        where = " ".join(part for part in (self.laterality.lower(), self.site) if part)
        what = self.finding or self.tracking_identifier or "(no finding named)"
        return f"{what}, {where}" if where else what


def read_group(container: Dataset) -> Group:
    """Reads a measurement group."""
    group = Group(images=list(dict.fromkeys(images(container))))
    for item in children(container):
        if code(item) != MEASUREMENT_GROUP:
            _add(group, item)
    _add_places(group, container)
    group.regions = list(dict.fromkeys(group.regions))
    return group


def joined(groups: Sequence[Group]) -> list[Group]:
    """Groups that track the same thing as one."""
    found: dict[str, Group] = {}
    for place, group in enumerate(groups):
        known = found.setdefault(group.tracking_uid or f"#{place}", group)
        if known is group:
            continue
        for part in ("regions", "not_drawn", "images", "measurements", "comments", "evaluations"):
            mine = getattr(known, part)
            mine += [each for each in getattr(group, part) if each not in mine]
        for part in ("tracking_identifier", "finding", "site", "laterality", "algorithm"):
            setattr(known, part, getattr(known, part) or getattr(group, part))
        known.certainty = group.certainty if known.certainty is None else known.certainty
    return list(found.values())


def _add(group: Group, item: Dataset) -> None:
    """What an item directly in the group says."""
    concept, below = code(item), children(item)
    if concept == _TRACKING_IDENTIFIER:
        group.tracking_identifier = value(item)
    elif concept == _TRACKING_UID:
        group.tracking_uid = value(item)
    elif concept == _FINDING:
        group.finding = value(item)
    elif concept in _SITES:
        group.site = ", ".join(part for part in (group.site, value(item)) if part)
        group.laterality = group.laterality or next(
            (value(child) for child in below if code(child) in _LATERALITY), ""
        )
        below = [child for child in below if code(child) not in _LATERALITY]
    elif concept == _COMMENT:
        group.comments.append(value(item))
    elif concept == _CERTAINTY:
        group.certainty = _percent(number(item)[0])
    elif concept in _ALGORITHM:
        group.algorithm = f"{group.algorithm} {value(item)}".strip()
    elif kind(item) == "NUM":
        group.measurements.append(_measurement(item))
        return
    elif kind(item) not in _PLACES:
        group.evaluations.append(f"{name(item)}: {value(item)}".rstrip())
    group.evaluations += told(below, 1)


def _measurement(item: Dataset) -> tuple[str, str, str]:
    qualified = [
        value(child) if code(child) == _DERIVATION else line
        for child in children(item)
        for line in told([child])
    ]
    named = f"{name(item)} ({'; '.join(qualified)})" if qualified else name(item)
    return named, *number(item)


def _percent(text: str) -> float | None:
    try:
        percent = float(text)
    except ValueError:  # a reason why there is none
        return None
    return percent if math.isfinite(percent) else None


def _add_places(group: Group, item: Dataset) -> None:
    """Where it is: what stands in the group, or under one of its measurements."""
    for child in children(item):
        is_aid = kind(child) in ("SCOORD", "SCOORD3D") and code(child) in _AIDS
        if is_aid or code(child) == MEASUREMENT_GROUP:
            continue
        match kind(child):
            case "SCOORD":
                _add_region(group, child)
            case "SCOORD3D":
                group.not_drawn.append(f"{child.get('GraphicType', 'graphic')} in space")
            case "IMAGE" if is_segmentation(child):
                group.not_drawn.append(_segment(child))
        _add_places(group, child)


def _add_region(group: Group, item: Dataset) -> None:
    data = [float(each) for each in item.get("GraphicData") or ()]
    graphic = str(item.get("GraphicType", "graphic"))
    if not data or len(data) % 2 or not all(map(math.isfinite, data)):
        group.not_drawn.append(f"{graphic} without whole points")
        return
    points = tuple(zip(data[0::2], data[1::2], strict=True))
    group.regions.append(Region(graphic, points, next(images(item), "")))


def _segment(item: Dataset) -> str:
    segments = referenced(item).get("ReferencedSegmentNumber")
    segments = [segments] if isinstance(segments, int) else segments or []
    what = f"segment {', '.join(map(str, segments))} of segmentation" if segments else "segmentation"
    return f"{what} {referenced_instance(item)}"
