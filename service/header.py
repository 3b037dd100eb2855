"""What a header says, read so that nothing that a device may have written there can raise."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from pydicom import Dataset

from litegpt.attributes import UNDECODABLE


def age_years(header: Dataset) -> float | None:
    """The patient's age at the study, by the dates or by Patient's Age (PS3.5 6.2, VR AS)."""
    born, studied = _date(header, "PatientBirthDate"), _date(header, "StudyDate")
    if born and studied and studied >= born:
        return (studied - born).days / 365.2425
    match = re.fullmatch(r"(\d{3})([DWMY])", text(header, "PatientAge"))
    if not match:
        return None
    return int(match[1]) / {"D": 365.2425, "W": 52.1775, "M": 12.0, "Y": 1.0}[match[2]]


def _date(header: Dataset, keyword: str) -> date | None:
    try:
        return datetime.strptime(text(header, keyword), "%Y%m%d").date()
    except ValueError:
        return None


def values(header: Dataset, keyword: str) -> list[object]:
    """An element's values; none where it is absent, empty or cannot be read."""
    value = _value(header, keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def texts(header: Dataset, keyword: str) -> list[str]:
    """An element's values as they stand; none where it is a sequence, whose items would be decoded for it."""
    try:
        return [str(value) for value in values(header, keyword) if not isinstance(value, Dataset)]
    except UNDECODABLE:
        return []


def text(header: Dataset, keyword: str) -> str:
    """An element's first value in capitals, without spaces around it."""
    return next(iter(texts(header, keyword)), "").strip().upper()


def integer(header: Dataset, keyword: str, default: int = 0) -> int:
    """An element's value as a number; ``default`` where it is none."""
    value: Any = _value(header, keyword)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        return default


def _value(header: Dataset, keyword: str) -> object:
    """What a header says, or ``None`` where it cannot be read: pydicom decodes an element only when asked."""
    try:
        return header.get(keyword)
    except UNDECODABLE:
        return None


def storable(text: str) -> str:
    """A text as the records can keep it: PostgreSQL's has no NUL, with which some devices pad, and UTF-8 no
    half of a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
