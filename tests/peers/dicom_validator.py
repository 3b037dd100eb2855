"""pydicom's dicom-validator: what an object lacks, or has too much, by the tables of PS3.3.

It would download the standard. Here it gets the edition of 2020, which the package dicom-standard has as
JSON. There an included macro has lost its condition, so the content tree of reports is left to others.
"""

from __future__ import annotations

import html
import json
import logging
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Final

from pydicom._dicom_dict import DicomDictionary

from tests.presence import absent

IODS: Final = (
    "comprehensive-sr",
    "comprehensive-3d-sr",
    "grayscale-softcopy-presentation-state",
    "secondary-capture-image",
)
CONTENT_TREE: Final = "sr-document-content"
SINCE: Final = "SOP Common: (0018,A001) / (0018,1002): TagUnexpected"
"""Device UID of Contributing Equipment, which IHE AIR wants, is in later editions."""

Table = dict[str, Any]


def dicom_validator(path: Path) -> list[str]:
    """What is wrong with an object of one of :data:`IODS`: module, attribute, error."""
    (result,) = _validator().validate(str(path)).values()
    assert result.status.name in ("Passed", "Failed"), result.status
    found = {
        f"{module}: {tag}: {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    }
    return sorted(found - {SINCE})


@cache
def _validator() -> Any:
    try:
        from dicom_validator.spec_reader.condition_parser import ConditionParser
        from dicom_validator.validator.dicom_file_validator import DicomFileValidator
        from dicom_validator.validator.dicom_info import DicomInfo
        from dicom_validator.validator.error_handler import NullValidationResultHandler
    except ImportError:
        absent("dicom-validator is not installed (the extra dev)")
    dictionary = {
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})": {"name": name, "vr": vr, "vm": vm}
        for tag, (vr, vm, name, *_) in DicomDictionary.items()
    }
    parser = ConditionParser(dictionary)
    info = DicomInfo(dictionary, _iods(parser), _modules(dictionary, parser))
    return DicomFileValidator(info, logging.ERROR, error_handler=NullValidationResultHandler())


def _standard(name: str) -> Any:
    """One of the package's files, which it puts beside the libraries."""
    try:
        installed = files("dicom-standard") or []
    except PackageNotFoundError:
        absent("dicom-standard is not installed (the extra dev)")
    (file,) = (file for file in installed if file.name == f"{name}.json")
    return json.loads(Path(str(file.locate())).read_text(encoding="utf-8"))


@cache
def _usage() -> list[Table]:
    return [row for row in _standard("ciod_to_modules") if row["ciodId"] in IODS]


def _iods(parser: Any) -> dict[str, Table]:
    """By SOP class: which modules an object has, must have, or has on a condition."""
    names = {module["id"]: module["name"] for module in _standard("modules")}
    ids = {iod["name"]: iod["id"] for iod in _standard("ciods")}
    iods: dict[str, Table] = {}
    for sop_class in _standard("sops"):
        used: Table = {}
        for row in _usage():
            if row["ciodId"] == ids.get(sop_class["ciod"]):
                used[names[row["moduleId"]]] = {"ref": row["moduleId"], "use": row["usage"]}
                if row["usage"] == "C":
                    condition = parser.parse(f"C - {row['conditionalStatement']}")
                    used[names[row["moduleId"]]]["cond"] = condition.result_dict()
        if used:
            iods[sop_class["id"]] = {"title": sop_class["ciod"], "modules": used, "group_macros": {}}
    assert len(iods) == len(IODS)
    return iods


def _modules(dictionary: Table, parser: Any) -> dict[str, Table]:
    """By module: its attributes, those of sequences' items below them."""
    modules: dict[str, Table] = {row["moduleId"]: {} for row in _usage()}
    for row in _standard("module_to_attributes"):
        module, *path = row["path"].split(":")
        if module not in modules or "xx" in row["path"]:  # repeating groups
            continue
        if module == CONTENT_TREE:
            if len(path) == 1:
                modules[module][_tag(path[0])] = {"name": "", "type": "3"}
            continue
        attributes = modules[module]
        for sequence in path[:-1]:
            attributes = attributes.setdefault(_tag(sequence), {}).setdefault("items", {})
        tag = _tag(path[-1])
        attribute = attributes.setdefault(tag, {})
        attribute |= {"name": dictionary.get(tag, {}).get("name", ""), "type": row["type"]}
        if row["type"] in ("1C", "2C", "3"):
            text = html.unescape(re.sub(r"<[^>]+>", " ", row["description"]))
            attribute["cond"] = parser.parse(" ".join(text.split())).result_dict()
    return modules


def _tag(digits: str) -> str:
    return f"({digits[:4]},{digits[4:]})".upper()
