"""Pictures of archived images, as a viewer would show them, for a browser."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from litegpt.radiograph import read_radiograph

LONGEST_SIDE: Final = 1600
"""Larger images are made smaller for the screen; the boxes over them keep the image's own pixels."""

_VERSION: Final = "1"
"""Of how pictures are made; part of their tags."""

_AT_ONCE: Final = threading.BoundedSemaphore(2)
"""A large image takes half a gigabyte while it is drawn."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the page needs of an image's header; sizes in pixels, 0 where it does not say."""

    columns: int
    rows: int


def read_header(file: Path) -> Header | None:
    """The size of an image; ``None`` where the file is not there, or cannot be read."""
    try:
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return Header(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0))
    except (OSError, InvalidDicomError, ValueError, TypeError, AttributeError):
        return None


def tag_of(digest: str) -> str:
    """The entity tag of an image's picture (RFC 9110, 8.8.3)."""
    return f'"{hashlib.sha256(f"{digest} {LONGEST_SIDE} {_VERSION}".encode()).hexdigest()[:32]}"'


def draw(file: Path, maximum_pixels: int) -> bytes:
    """A PNG of the image, its longest side at most :data:`LONGEST_SIDE` pixels.

    Raises:
        RadiographError: If it is no image that can be shown.
        OSError: If the file cannot be read.
    """
    with _AT_ONCE:
        picture = Image.fromarray(read_radiograph(file, maximum_pixels=maximum_pixels).pixels)
        scale = LONGEST_SIDE / max(picture.size)
        if scale < 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        out = BytesIO()
        picture.save(out, "PNG", compress_level=3)
        return out.getvalue()
