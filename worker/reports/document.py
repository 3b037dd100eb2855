"""A TID 1500 Structured Report as it is found in a file, whoever wrote it.

Shares no code with what writes our reports. Writers differ: a region stands in its group or under a
measurement (dcmjs), certainty in a group of its own with the same tracking UID (ours), sites in SNOMED CT or
SNOMED RT. What has no place in the structure is kept as a line of text, so that nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from litegpt.attributes import MALFORMED
from service.errors import CannotUnderstand
from worker.reports.regions import Region

_GROUP: Final = "125007"
_TRACKING_IDENTIFIER: Final = "112039"
_TRACKING_UID: Final = "112040"
_FINDING: Final = "121071"
_SITES: Final = frozenset({"363698007", "G-C0E3"})
_LATERALITY: Final = frozenset({"272741003", "G-C171"})
_COMMENT: Final = "121106"
_CERTAINTY: Final = "111012"
_ALGORITHM_NAME: Final = "111001"
_ALGORITHM_VERSION: Final = "111003"
_NOT_TOLD: Final = frozenset({"CONTAINER", "IMAGE", "SCOORD", "SCOORD3D", "UIDREF", "COMPOSITE"})


@dataclass
class Group:
    """A finding with all that a report says of it.

    Attributes:
        tracking_uid: Tracking Unique Identifier; empty where there is none.
        tracking_identifier: For people and viewers.
        finding, site, laterality: Code meanings; empty where not said.
        regions: Where it is.
        certainty: Percent.
        measurements: (name, value, unit).
        comments: Texts.
        algorithm: Name and version.
    """

    tracking_uid: str = ""
    tracking_identifier: str = ""
    finding: str = ""
    site: str = ""
    laterality: str = ""
    regions: list[Region] = field(default_factory=list)
    certainty: float | None = None
    measurements: list[tuple[str, str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    algorithm: str = ""

    @property
    def name(self) -> str:
        """What it is, and where in the body."""
        where = " ".join(part for part in (self.laterality.lower(), self.site) if part)
        what = self.finding or self.tracking_identifier or "(no finding named)"
        return f"{what}, {where}" if where else what


@dataclass
class Report:
    """What a report says.

    Attributes:
        title: Of the document.
        study_instance_uid, sop_instance_uid: Its identity.
        sop_class: Name of its SOP class.
        written: Content date and time, as they stand there.
        flags: Completion, preliminary, verification.
        groups: In the report's order; groups that share a tracking UID are one.
        statements: Everything else, a line each.
    """

    title: str
    study_instance_uid: str
    sop_instance_uid: str
    sop_class: str
    written: str
    flags: tuple[str, ...]
    groups: list[Group]
    statements: list[str]


def read_report(path: Path) -> Report:
    """Reads a report.

    Raises:
        CannotUnderstand: If the file is no Structured Report; one line.
        OSError: If it cannot be read.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        raise CannotUnderstand(f"{path} is no DICOM file") from None
    if "ContentSequence" not in dataset:
        raise CannotUnderstand(f"{path} is no Structured Report: it has no content")
    try:
        return _report(dataset)
    except MALFORMED as error:
        raise CannotUnderstand(f"{path} cannot be understood: {error}") from None


def _report(dataset: Dataset) -> Report:
    flags = ("CompletionFlag", "PreliminaryFlag", "VerificationFlag")
    return Report(
        title=_meaning(dataset, "ConceptNameCodeSequence"),
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        sop_class=dataset.SOPClassUID.name if "SOPClassUID" in dataset else "",
        written=f"{dataset.get('ContentDate', '')} {dataset.get('ContentTime', '')}".strip(),
        flags=tuple(str(dataset.get(flag)) for flag in flags if dataset.get(flag)),
        groups=_joined([_group(item) for item in _groups(dataset)]),
        statements=list(_statements(dataset, 0)),
    )


def _groups(item: Dataset) -> Iterator[Dataset]:
    """Every measurement group, however deep."""
    for child in _children(item):
        if _code(child) == _GROUP:
            yield child
        else:
            yield from _groups(child)


def _group(container: Dataset) -> Group:
    group = Group()
    names = {"name": "", "version": ""}
    for item in _children(container):
        code, value = _code(item), _value(item)
        if code == _TRACKING_IDENTIFIER:
            group.tracking_identifier = value
        elif code == _TRACKING_UID:
            group.tracking_uid = value
        elif code == _FINDING:
            group.finding = value
        elif code in _SITES:
            group.site = value
            group.laterality = next(
                (_value(child) for child in _children(item) if _code(child) in _LATERALITY), ""
            )
        elif code == _COMMENT:
            group.comments.append(value)
        elif code == _CERTAINTY:
            group.certainty = float(_number(item)[0])
        elif code in (_ALGORITHM_NAME, _ALGORITHM_VERSION):
            names["name" if code == _ALGORITHM_NAME else "version"] = value
        elif item.get("ValueType") == "NUM":
            group.measurements.append((_meaning(item, "ConceptNameCodeSequence"), *_number(item)))
    group.algorithm = " ".join(part for part in names.values() if part)
    group.regions = list(_regions(container))
    return group


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Groups that track the same thing as one."""
    joined: dict[str, Group] = {}
    for place, group in enumerate(groups):
        known = joined.setdefault(group.tracking_uid or f"#{place}", group)
        if known is group:
            continue
        known.regions += group.regions
        known.measurements += group.measurements
        known.comments += group.comments
        for part in ("finding", "site", "laterality", "algorithm"):
            setattr(known, part, getattr(known, part) or getattr(group, part))
        known.certainty = group.certainty if known.certainty is None else known.certainty
    return list(joined.values())


def _regions(item: Dataset) -> Iterator[Region]:
    for child in _children(item):
        if child.get("ValueType") == "SCOORD":
            data = [float(number) for number in child.GraphicData]
            images = [_image(below) for below in _children(child) if below.get("ValueType") == "IMAGE"]
            points = tuple(zip(data[0::2], data[1::2], strict=True))
            yield Region(str(child.GraphicType), points, images[0] if images else "")
        yield from _regions(child)


def _statements(item: Dataset, depth: int) -> Iterator[str]:
    """What stands outside of the groups, indented as it is nested."""
    for child in _children(item):
        if _code(child) == _GROUP:
            continue
        told = child.get("ValueType") not in _NOT_TOLD
        if told:
            name = _meaning(child, "ConceptNameCodeSequence")
            yield f"{'  ' * depth}{name}: {_value(child)}"
        yield from _statements(child, depth + told)


def _children(item: Dataset) -> Sequence[Dataset]:
    return item.get("ContentSequence") or []


def _code(item: Dataset) -> str:
    named = item.get("ConceptNameCodeSequence") or [Dataset()]
    return str(named[0].get("CodeValue", ""))


def _meaning(item: Dataset, keyword: str) -> str:
    coded = item.get(keyword) or [Dataset()]
    return str(coded[0].get("CodeMeaning") or coded[0].get("CodeValue", ""))


def _value(item: Dataset) -> str:
    match item.get("ValueType"):
        case "CODE":
            return _meaning(item, "ConceptCodeSequence")
        case "NUM":
            return " ".join(_number(item)).strip()
        case "TEXT":
            return str(item.get("TextValue", ""))
        case "UIDREF":
            return str(item.get("UID", ""))
        case "PNAME":
            return "(a person)"
        case kind:
            return str(item.get({"DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}.get(kind, ""), ""))


def _number(item: Dataset) -> tuple[str, str]:
    measured = (item.get("MeasuredValueSequence") or [Dataset()])[0]
    unit = (measured.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
    return str(measured.get("NumericValue", "nan")), str(unit.get("CodeValue", ""))


def _image(item: Dataset) -> str:
    referenced = (item.get("ReferencedSOPSequence") or [Dataset()])[0]
    return str(referenced.get("ReferencedSOPInstanceUID", ""))
