"""Decoders that do not survive some images; imported by the process that decodes, so with little else."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from litegpt.squares import SquashedImage, read_squares

BAD_ROWS = 64


def crash_on_bad(path: Path, sizes: Sequence[int], **named: Any) -> SquashedImage:
    """As a decoder that is C: some images end its process."""
    if dcmread(path).Rows == BAD_ROWS:
        os.abort()
    return read_squares(path, sizes, **named)


def hang_on_bad(path: Path, sizes: Sequence[int], **named: Any) -> SquashedImage:
    """As a decoder that never comes back."""
    if dcmread(path).Rows == BAD_ROWS:
        time.sleep(600)
    return read_squares(path, sizes, **named)


def swell_on_bad(path: Path, sizes: Sequence[int], **named: Any) -> SquashedImage:
    """As a decoder that believes a size that the image states."""
    if dcmread(path).Rows == BAD_ROWS:
        bytearray(1 << 40)
    return read_squares(path, sizes, **named)
