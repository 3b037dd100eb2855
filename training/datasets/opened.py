"""Examples whose images were opened, as far as it takes to know their size; no pixel is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from litegpt.attributes import MALFORMED, required_integer
from litegpt.errors import RadiographError
from training.datasets.example import Example, Size
from training.datasets.pictures import is_picture
from training.datasets.problems import Kind, Place, Tally
from training.datasets.written_box import inside


def opened(examples: Iterable[Example], tally: Tally) -> Iterator[Example]:
    """Opens each image and cuts the boxes to it.

    Images that cannot be opened, or are not of the size that the boxes refer to, are refused.
    """
    for example in examples:
        if example.image is None:
            yield example
            continue
        place = Place(example.image)
        try:
            size = image_size(example.image)
        except RadiographError as error:
            tally.report(Kind.UNREADABLE_IMAGE, place, "", str(error))
            continue
        if example.size not in (None, size):
            stated = f"{example.size.columns} × {example.size.rows}" if example.size else ""
            tally.report(Kind.IMAGE_SIZE, place, "", f"{size.columns} × {size.rows} pixels, not {stated}")
            continue
        yield _cut(example, size, tally)


def image_size(file: Path) -> Size:
    """Columns and rows of a DICOM, PNG or JPEG file, from its header.

    Raises:
        RadiographError: If the file is none of these, or cannot be read.
    """
    try:
        if is_picture(file):
            with Image.open(file) as image:
                return Size(*image.size)
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        size = Size(required_integer(dataset, "Columns"), required_integer(dataset, "Rows"))
    except (UnidentifiedImageError, InvalidDicomError):
        raise RadiographError("neither DICOM, PNG nor JPEG") from None
    except (*MALFORMED, OSError, Image.DecompressionBombError) as error:
        raise RadiographError(f"cannot be read: {error}") from None
    if min(size) < 1:
        raise RadiographError(f"the image has {size.rows} rows and {size.columns} columns")
    return size


def _cut(example: Example, size: Size, tally: Tally) -> Example:
    findings = []
    for finding in example.findings:
        if box := inside(finding.box, size, "", example.place, tally):
            findings.append(replace(finding, box=box))
    return replace(example, findings=tuple(findings), size=size)
