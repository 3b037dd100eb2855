"""Reads TID 1500 reports for tests, through dcmtk's dcm2json: shares no code with what wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers.dcmtk import run_program

Item = dict[str, Any]


@dataclass
class Group:
    """One measurement group.

    Attributes:
        tracking_uid: Tracking Unique Identifier.
        tracking_identifier: Tracking Identifier.
        finding: (code value, scheme) of the finding, if there is one.
        site: (code value, scheme) of the site.
        laterality: (code value, scheme) of its side, if it says so.
        algorithm: Name and version of the algorithm.
        points: Corners of the region, (column, row).
        images: SOP Instance UIDs that the group or its region refers to.
        certainty: Percent.
        comment: Text for people.
    """

    tracking_uid: str = ""
    tracking_identifier: str = ""
    finding: tuple[str, str] | None = None
    site: tuple[str, str] | None = None
    laterality: tuple[str, str] | None = None
    algorithm: tuple[str, str] = ("", "")
    points: list[tuple[float, float]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    certainty: float | None = None
    comment: str = ""


@dataclass
class Evaluation:
    """One coded statement of Qualitative Evaluations.

    Attributes:
        name: Code value of what is stated: 121071 a finding, 111017 the findings summary.
        value: (code value, scheme) stated.
        site: (code value, scheme) of the site.
        algorithm: Name and version of the algorithm.
        certainty: Percent.
        comment: Text for people.
        images: SOP Instance UIDs it was inferred from.
    """

    name: str
    value: tuple[str, str]
    site: tuple[str, str] | None = None
    algorithm: tuple[str, str] = ("", "")
    certainty: float | None = None
    comment: str = ""
    images: list[str] = field(default_factory=list)


class Report:
    """A report as a reader finds it in the file."""

    def __init__(self, path: Path) -> None:
        ended = run_program("dcm2json", "+fc", path, package="dcmtk")
        assert ended.succeeded, ended.output
        self.root: Item = json.loads(ended.output[ended.output.index("{") :])

    def value(self, tag: str, item: Item | None = None) -> Any:
        """First value of an attribute, by its tag in eight digits; ``None`` where it is empty."""
        values = (self.root if item is None else item)[tag].get("Value")
        return values[0] if values else None

    @property
    def groups(self) -> list[Group]:
        """Every measurement group, in the report's order."""
        containers = [item for item in children(self.root) if name(item) == "126010"]
        return [_group(item) for found in containers for item in children(found) if name(item) == "125007"]

    @property
    def boxes(self) -> list[Group]:
        """The groups that have a region."""
        return [group for group in self.groups if group.points]

    @property
    def evaluations(self) -> list[Evaluation]:
        """The coded statements about whole images, that is, those inferred from an image."""
        coded = [_evaluation(item) for item in self._evaluations() if "0040A168" in item]
        return [evaluation for evaluation in coded if evaluation.images]

    @property
    def summary(self) -> str:
        """Code value of the whole report's findings summary."""
        return next(code(item)[0] for item in self._evaluations() if name(item) == "111017")

    @property
    def title(self) -> str:
        """Code value of the document's title."""
        return name(self.root)

    @property
    def statements(self) -> list[str]:
        """What the whole report says in plain words."""
        return [item["0040A160"]["Value"][0] for item in self._evaluations() if name(item) == "121106"]

    @property
    def library(self) -> list[str]:
        """SOP Instance UIDs of the image library."""
        found = [item for item in children(self.root) if name(item) == "111028"]
        return [uid for item in found for uid in _references(item)]

    @property
    def evidence(self) -> list[str]:
        """SOP Instance UIDs of Current Requested Procedure Evidence Sequence."""
        return [
            reference["00081155"]["Value"][0]
            for study in self.root["0040A375"]["Value"]
            for series in study["00081115"]["Value"]
            for reference in series["00081199"]["Value"]
        ]

    def _evaluations(self) -> list[Item]:
        container = next(item for item in children(self.root) if name(item) == "C0034375")
        return children(container)


def children(item: Item) -> list[Item]:
    values: list[Item] = item.get("0040A730", {}).get("Value", [])
    return values


def name(item: Item) -> str:
    """Code value of a content item's concept name."""
    return code(item, "0040A043")[0] if "0040A043" in item else ""


def code(item: Item, tag: str = "0040A168") -> tuple[str, str]:
    """(code value, scheme) of a coded attribute."""
    coded = item[tag]["Value"][0]
    return coded["00080100"]["Value"][0], coded["00080102"]["Value"][0]


def _group(container: Item) -> Group:
    group = Group()
    for item in children(container):
        match name(item):
            case "112040":
                group.tracking_uid = item["0040A124"]["Value"][0]
            case "112039":
                group.tracking_identifier = item["0040A160"]["Value"][0]
            case "121071":
                group.finding = code(item)
            case "363698007":
                group.site = code(item)
                sides = [code(child) for child in children(item) if name(child) == "272741003"]
                group.laterality = sides[0] if sides else None
            case "111030":
                data = item["00700022"]["Value"]
                assert item["00700023"]["Value"] == ["POLYLINE"]
                group.points = list(zip(data[0::2], data[1::2], strict=True))
            case "111012":
                group.certainty = _percent(item)
            case "121106":
                group.comment = item["0040A160"]["Value"][0]
    group.algorithm = _algorithm(container)
    group.images = list(_references(container))
    return group


def _evaluation(item: Item) -> Evaluation:
    evaluation = Evaluation(
        name(item), code(item), algorithm=_algorithm(item), images=list(_references(item))
    )
    for child in children(item):
        match name(child):
            case "363698007":
                evaluation.site = code(child)
            case "111012":
                evaluation.certainty = _percent(child)
            case "121106":
                evaluation.comment = child["0040A160"]["Value"][0]
    return evaluation


def _algorithm(item: Item) -> tuple[str, str]:
    texts = {name(child): child["0040A160"]["Value"][0] for child in children(item) if "0040A160" in child}
    return texts.get("111001", ""), texts.get("111003", "")


def _percent(item: Item) -> float:
    measured = item["0040A300"]["Value"][0]
    assert code(measured, "004008EA") == ("%", "UCUM")
    return float(measured["0040A30A"]["Value"][0])


def _references(item: Item) -> Iterator[str]:
    for reference in item.get("00081199", {}).get("Value", []):
        yield reference["00081155"]["Value"][0]
    for child in children(item):
        yield from _references(child)
