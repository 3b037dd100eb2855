"""Reads single attributes of datasets that strangers wrote: what is missing or malformed is no crash."""

from __future__ import annotations

import math
import struct
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from litegpt.errors import RadiographError

MALFORMED: Final = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises over values and files that are not as they should be; there is no common base."""

UNDECODABLE: Final = (*MALFORMED, OSError)
"""What it raises where an element of a dataset that has been read is decoded: over content it raises plain
OSErrors, too, and no file is asked for anything there."""


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The finite numbers of an attribute of any numeric VR; empty where it is absent, empty or malformed."""
    try:
        values = [float(value) for value in _values(dataset, keyword)]
    except UNDECODABLE:
        return []
    return values if all(math.isfinite(value) for value in values) else []


def integer(dataset: Dataset, keyword: str) -> int | None:
    """The first number of an attribute as an integer; None where it is absent, empty or malformed."""
    values = numbers(dataset, keyword)
    return int(values[0]) if values else None


def required_integer(dataset: Dataset, keyword: str) -> int:
    """As ``integer``, of an attribute that an image must have.

    Raises:
        RadiographError: If it is absent, empty or malformed.
    """
    value = integer(dataset, keyword)
    if value is None:
        raise RadiographError(f"the image does not say its {keyword}")
    return value


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text attribute, on one line; empty where it is absent, empty or malformed."""
    try:
        values = _values(dataset, keyword)
        # An item of a sequence is no text, and would be decoded to be one.
        return " ".join(str(values[0]).split()) if values and not isinstance(values[0], Dataset) else ""
    except UNDECODABLE:
        return ""


def sequence_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence; None where there is none."""
    try:
        values = _values(dataset, keyword)
    except UNDECODABLE:
        return None
    return values[0] if values and isinstance(values[0], Dataset) else None


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    if isinstance(value, MultiValue | Sequence | list | tuple):
        return list(value)
    return [value]
