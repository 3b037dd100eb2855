"""Which objects are analysed, and why the others are not. Eligibility is data: it decides no transfer.

The header speaks first (PS3.3 C.8.11 for DX, C.8.1 for CR); what a header does not say does not exclude.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from service.header import age_years, integer, text, texts, values
from service.settings import Settings

CR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.1"
DX_IMAGE_FOR_PRESENTATION: Final = "1.2.840.10008.5.1.4.1.1.1.1"
DX_IMAGE_FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
RADIOGRAPHS: Final = (CR_IMAGE, DX_IMAGE_FOR_PRESENTATION, DX_IMAGE_FOR_PROCESSING, SECONDARY_CAPTURE)

MODALITIES: Final = ("CR", "DX", "RG")
"""Those of which images are analysed."""

_FRONTAL_VIEWS: Final = frozenset({"PA", "AP"})
_LATERAL_VIEWS: Final = frozenset({"LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LLO", "RLO"})
_CHEST_WORDS: Final = ("CHEST", "THORAX", "LUNG", "TORAX")
_RULES_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The rules of one node."""

    minimum_age_years: float
    maximum_pixels: int

    @classmethod
    def of(cls, settings: Settings) -> Eligibility:
        """The rules that the settings ask for."""
        return cls(settings.minimum_age_years, settings.maximum_pixels)

    @property
    def digest(self) -> str:
        """Names these rules; part of what an analysis is.

        They are all the settings that it depends on: a model's preprocessing and thresholds belong to its
        version, which names an analysis, too (``litegpt-train calibrate`` asks for a new one).
        """
        rules = {"rules": _RULES_VERSION, "age": float(self.minimum_age_years), "pixels": self.maximum_pixels}
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()

    def reason_against(self, header: Dataset) -> str:
        """Why an object is not analysed, in words; empty where it is.

        Args:
            header: The object's dataset; pixel data is not looked at.
        """
        for complaint in (_kind(header), _view(header), self._matrix(header), self._age(header)):
            if complaint:
                return complaint
        return ""

    def _matrix(self, header: Dataset) -> str:
        rows, columns = integer(header, "Rows"), integer(header, "Columns")
        if rows <= 0 or columns <= 0:
            return f"no pixels: {rows} rows, {columns} columns"
        if rows * columns > self.maximum_pixels:
            return f"too many pixels: {rows} rows, {columns} columns"
        if integer(header, "NumberOfFrames", 1) > 1:
            return "more than one frame"
        return ""

    def _age(self, header: Dataset) -> str:
        age = age_years(header)
        if age is not None and age < self.minimum_age_years:
            return f"patient is {int(age)} years old, below {self.minimum_age_years:g}"
        return ""


def _kind(header: Dataset) -> str:
    sop_class = str(header.get("SOPClassUID", ""))
    if sop_class == DX_IMAGE_FOR_PROCESSING or text(header, "PresentationIntentType") == "FOR PROCESSING":
        return "for processing, not for presentation"
    if sop_class not in RADIOGRAPHS:
        return "not a radiograph"
    modality = text(header, "Modality")
    if modality not in MODALITIES:
        return f"modality {modality or 'unknown'}"
    image_type = [value.upper() for value in texts(header, "ImageType")]
    if image_type[:2] == ["DERIVED", "SECONDARY"]:
        return "a derived image"
    return ""


def _view(header: Dataset) -> str:
    part = text(header, "BodyPartExamined")
    if part and not any(word in part for word in _CHEST_WORDS):
        return f"body part {part}"
    view = text(header, "ViewPosition")
    if view in _LATERAL_VIEWS or (not view and _lateral_by_code(header)):
        return f"lateral view {view}".strip()
    if view and view not in _FRONTAL_VIEWS:
        return f"view {view}"
    return ""


_LATERAL_VIEW_CODES: Final = frozenset({"399067008", "399173006", "399198007"})
"""Lateral, left lateral and right lateral (PS3.16 CID 4010, SCT)."""


def _lateral_by_code(header: Dataset) -> bool:
    items = [item for item in values(header, "ViewCodeSequence") if isinstance(item, Dataset)]
    return any(text(item, "CodeValue") in _LATERAL_VIEW_CODES for item in items)
