"""Content items of a Structured Report (PS3.3 C.17.3): their names, their values, and what is nested in them.

Writers leave out what they must not; what is not there is empty here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID

MEASUREMENT_GROUP: Final = "125007"

_NOT_TOLD: Final = frozenset({"CONTAINER", "IMAGE", "SCOORD", "SCOORD3D", "UIDREF", "COMPOSITE"})
_NO_UNITS: Final = "1"
_SEGMENTATIONS: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.66.{last}" for last in (4, 5, 7))
"""Segmentation, Surface Segmentation, Label Map Segmentation."""


def children(item: Dataset) -> Sequence[Dataset]:
    """The content items directly below."""
    return item.get("ContentSequence") or []


def kind(item: Dataset) -> str:
    """Value Type."""
    return str(item.get("ValueType", ""))


def code(item: Dataset) -> str:
    """Code Value of its concept name."""
    named = item.get("ConceptNameCodeSequence") or [Dataset()]
    return str(named[0].get("CodeValue", ""))


def name(item: Dataset) -> str:
    """Code Meaning of its concept name."""
    return _meaning(item, "ConceptNameCodeSequence")


def value(item: Dataset) -> str:
    """What it says, as text; no names of persons."""
    match kind(item):
        case "CODE":
            return _meaning(item, "ConceptCodeSequence")
        case "NUM":
            return " ".join(number(item)).strip()
        case "TEXT":
            return str(item.get("TextValue", ""))
        case "UIDREF":
            return str(item.get("UID", ""))
        case "COMPOSITE":
            reference = referenced(item)
            return (
                f"{UID(reference.get('ReferencedSOPClassUID', '')).name} {referenced_instance(item)}".strip()
            )
        case "PNAME":
            return "(a person)"
        case dated:
            return str(item.get({"DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}.get(dated, ""), ""))


def number(item: Dataset) -> tuple[str, str]:
    """Value and unit of a NUM; where there is no value, the reason that stands there for it."""
    measured = (item.get("MeasuredValueSequence") or [Dataset()])[0]
    unit = (measured.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
    units = str(unit.get("CodeValue", ""))
    missing = _meaning(item, "NumericValueQualifierCodeSequence") or "nan"
    return str(measured.get("NumericValue", missing)), "" if units == _NO_UNITS else units


def referenced(item: Dataset) -> Dataset:
    """The first reference of an IMAGE or COMPOSITE."""
    reference: Dataset = (item.get("ReferencedSOPSequence") or [Dataset()])[0]
    return reference


def referenced_instance(item: Dataset) -> str:
    """SOP Instance UID that an IMAGE or COMPOSITE refers to."""
    return str(referenced(item).get("ReferencedSOPInstanceUID", ""))


def is_segmentation(item: Dataset) -> bool:
    """Whether an IMAGE is no picture but the parts of one."""
    return str(referenced(item).get("ReferencedSOPClassUID", "")) in _SEGMENTATIONS


def images(item: Dataset) -> Iterator[str]:
    """SOP Instance UIDs of every image below, segmentations left out."""
    for child in children(item):
        if kind(child) == "IMAGE" and not is_segmentation(child):
            yield referenced_instance(child)
        yield from images(child)


def told(items: Sequence[Dataset], depth: int = 0) -> Iterator[str]:
    """Whatever stands in items and below, a line each, indented as it is nested; no measurement groups."""
    for item in items:
        if code(item) == MEASUREMENT_GROUP:
            continue
        says = kind(item) not in _NOT_TOLD
        if says:
            yield f"{'  ' * depth}{name(item)}: {value(item)}"
        yield from told(children(item), depth + says)


def _meaning(item: Dataset, keyword: str) -> str:
    coded = item.get(keyword) or [Dataset()]
    return str(coded[0].get("CodeMeaning") or coded[0].get("CodeValue", ""))
