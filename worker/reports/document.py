"""A TID 1500 Structured Report as it is found in a file, whoever wrote it.

Shares no code with what writes our reports. What has no place in the structure is kept as a line of text, so
that nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from litegpt.attributes import UNDECODABLE
from service.errors import CannotUnderstand
from worker.reports.content_items import MEASUREMENT_GROUP, children, code, images, kind, name, told
from worker.reports.group import Group, joined, read_group


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
        images: SOP Instance UIDs of every image that it refers to.
        statements: Everything else, a line each.
    """

    title: str
    study_instance_uid: str
    sop_instance_uid: str
    sop_class: str
    written: str
    flags: tuple[str, ...]
    groups: list[Group]
    images: list[str]
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
    except UNDECODABLE as error:
        raise CannotUnderstand(f"{path} cannot be understood: {error}") from None


def _report(dataset: Dataset) -> Report:
    flags = ("CompletionFlag", "PreliminaryFlag", "VerificationFlag")
    return Report(
        title=name(dataset),
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        sop_class=dataset.SOPClassUID.name if "SOPClassUID" in dataset else "",
        written=f"{dataset.get('ContentDate', '')} {dataset.get('ContentTime', '')}".strip(),
        flags=tuple(str(dataset.get(flag)) for flag in flags if dataset.get(flag)),
        groups=joined([read_group(item) for item in _groups(dataset)]),
        images=list(dict.fromkeys(images(dataset))),
        statements=[*told(children(dataset)), *_graphics_outside(dataset)],
    )


def _groups(item: Dataset) -> Iterator[Dataset]:
    """Every measurement group, however deep."""
    for child in children(item):
        if code(child) == MEASUREMENT_GROUP:
            yield child
        yield from _groups(child)


def _graphics_outside(item: Dataset) -> Iterator[str]:
    """Graphics that stand in no measurement group."""
    for child in children(item):
        if code(child) == MEASUREMENT_GROUP:
            continue
        if kind(child) in ("SCOORD", "SCOORD3D"):
            graphic = f"{name(child) or 'Graphic'}: {child.get('GraphicType', '')}"
            yield f"{graphic} (in no measurement group, not drawn)"
        yield from _graphics_outside(child)
