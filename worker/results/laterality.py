"""Which side of the patient a box is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.sr.coding import Code

from litegpt.boxes import Box
from worker.results import codes

_OPPOSITE: Final = {"L": "R", "R": "L"}
_CODES: Final = {"L": codes.LEFT, "R": codes.RIGHT}


def laterality(box: Box, columns: int, rows: int, orientation: Sequence[str]) -> Code | None:
    """The side of the patient on which the whole box lies; halves of the image stand for those of the body.

    Args:
        box: In pixels of the image's matrix.
        columns: Width of the image.
        rows: Its height.
        orientation: Patient Orientation, where its rows and columns lead, or empty (PS3.3 C.7.6.1.1.1).

    Returns:
        Left or Right (CID 244); None where the box reaches over the middle, or nobody knows which is which.
    """
    along = ((box.x_min, box.x_max, columns), (box.y_min, box.y_max, rows))
    for direction, (low, high, length) in zip(orientation, along, strict=False):
        leads_to = direction[0]
        if leads_to not in _OPPOSITE:
            continue
        if low >= length / 2:
            return _CODES[leads_to]
        return _CODES[_OPPOSITE[leads_to]] if high <= length / 2 else None
    return None
