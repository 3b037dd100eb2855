"""A rule: what must hold, and what then is done. The first that holds wins; a default stands last."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from litegpt.findings import Finding
from litegpt.vocabulary import LABELS
from service.peers import DEFAULT_RESULTS, Destination
from service.records.states import Priority
from service.rules.facts import Facts

DEFAULT: Final = "default"
"""The name of the rule that stands last and always holds."""


_DECISIONS: Final = frozenset(
    {"name", "analyse", "priority", "model", "destinations", "webhooks", "forward_images_to"}
)
"""What a rule's keys say of what is done, not of what must hold."""


def _texts(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _priority(value: object) -> object:
    names = {str(priority): priority for priority in Priority}
    if value is None or isinstance(value, Priority):
        return value
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return names[value]


def _destinations(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return tuple(Destination.parse(part) if isinstance(part, str) else part for part in value)
    return value


def _labels(value: object) -> object:
    values = _texts(value)
    if not isinstance(values, tuple):
        return value
    known = {label.casefold(): label for label in LABELS}
    return tuple(_label(one, known) for one in values)


def _label(value: object, known: dict[str, str]) -> object:
    if not isinstance(value, str) or value.casefold() in known:
        return known[value.casefold()] if isinstance(value, str) else value
    near = difflib.get_close_matches(value.casefold(), known, 1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else f": the labels are {', '.join(LABELS)}"
    raise ValueError(f"{value!r} is no finding{hint}")


def _of_images(value: tuple[Destination, ...] | None) -> tuple[Destination, ...] | None:
    addresses = [to.address for to in value or ()]
    if len(set(addresses)) < len(addresses):
        raise ValueError("a destination is there twice")
    for to in value or ():
        if to.results != DEFAULT_RESULTS:
            raise ValueError(f"{to}: images alone are passed on, so no kinds of results are said")
    return value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""One or several: any of them may fit. Capitals do not matter, ``*`` is any text, ``?`` any character."""


class Rule(BaseModel):
    """What must hold of one image of the study for a rule to be the study's; what is not said holds.

    Attributes:
        name: By which it is told apart.
        calling_ae_title, called_ae_title, station_name, modality, body_part, description: Patterns.
        minimum_age_years, maximum_age_years: Patients of this age and between; one of unknown age is neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=64)
    calling_ae_title: Patterns = ()
    called_ae_title: Patterns = ()
    station_name: Patterns = ()
    modality: Patterns = ()
    body_part: Patterns = ()
    description: Patterns = ()
    minimum_age_years: Annotated[float, Field(ge=0, strict=False)] | None = None
    maximum_age_years: Annotated[float, Field(ge=0, strict=False)] | None = None

    @property
    def conditions(self) -> str:
        """What must hold, in words; empty where nothing must."""
        said = {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name not in _DECISIONS and getattr(self, name) != field.default
        }
        return ", ".join(f"{name} {_words(value)}" for name, value in said.items())

    def why_not(self, images: Sequence[Facts]) -> str:
        """Why it is not the study's rule, in words; empty where one of the images fulfils all conditions."""
        reasons = [self._against(image) for image in images or (Facts(),)]
        return "; ".join(dict.fromkeys(reasons)) if all(reasons) else ""

    def _against(self, image: Facts) -> str:
        """The first of its conditions that an image does not fulfil, in words; empty where it does."""
        texts = {
            "calling_ae_title": (image.calling_ae_title,),
            "called_ae_title": (image.called_ae_title,),
            "station_name": (image.station_name,),
            "modality": (image.modality,),
            "body_part": (image.body_part,),
            "description": image.descriptions,
        }
        for condition, found in texts.items():
            patterns: tuple[str, ...] = getattr(self, condition)
            if patterns and not _any_fits(patterns, found):
                is_what = ", ".join(map(repr, filter(None, found))) or "not known"
                return f"{condition} is {is_what}, not {' or '.join(map(repr, patterns))}"
        return self._against_age(image.age_years)

    def _against_age(self, age: float | None) -> str:
        if self.minimum_age_years is None and self.maximum_age_years is None:
            return ""
        if age is None:
            return "the patient's age is not known"
        if self.minimum_age_years is not None and age < self.minimum_age_years:
            return f"the patient is {age:.0f}, below {self.minimum_age_years:g}"
        if self.maximum_age_years is not None and age > self.maximum_age_years:
            return f"the patient is {age:.0f}, above {self.maximum_age_years:g}"
        return ""


class StudyRule(Rule):
    """What becomes of a study that is complete.

    Attributes:
        analyse: Whether it is analysed at all.
        priority: How soon, where it did not come as a backlog.
        model: By which model that the node knows, if not by the active one: id and version, or version.
        forward_images_to: Where an image is passed on to of which the rule holds, in the place of the
            settings' list, and nowhere if it is empty; asked of each image when it comes.
    """

    analyse: bool = True
    priority: Annotated[Priority | None, BeforeValidator(_priority)] = None
    model: str = ""
    forward_images_to: Annotated[
        tuple[Destination, ...] | None, BeforeValidator(_destinations), AfterValidator(_of_images)
    ] = None

    @property
    def reading(self) -> str:
        """What it does with a study, in words."""
        if not self.analyse:
            return "not analysed"
        by = f" by {self.model}" if self.model else ""
        return f"analysed{by}" if self.priority is None else f"analysed{by}, {self.priority}"

    @property
    def decision(self) -> str:
        """What it does with a study, and with each image of which it holds, in words."""
        if self.forward_images_to is None:
            return self.reading
        return f"{self.reading}; images to {', '.join(map(str, self.forward_images_to)) or 'nobody'}"

    def priority_of(self, came: int) -> int:
        """The priority of a study that came with one: a backlog stays behind today's patients."""
        return came if self.priority is None or came == Priority.BACKLOG else self.priority


class ResultRule(Rule):
    """Where the results of an analysis go.

    Attributes:
        finding: Holds where one of these was found and is reported.
        minimum_score: And its score is this or more.
        destinations: All that get them; an empty list keeps them in the node.
        webhooks: Names of the webhooks that are told.
    """

    finding: Annotated[tuple[str, ...], BeforeValidator(_labels)] = ()
    minimum_score: Annotated[float, Field(ge=0, le=1, strict=False)] | None = None
    destinations: Annotated[tuple[Destination, ...], BeforeValidator(_destinations)]
    webhooks: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()

    @model_validator(mode="after")
    def _check_score(self) -> Self:
        if self.minimum_score is not None and not self.finding:
            raise ValueError("minimum_score needs a finding")
        addresses = [to.address for to in self.destinations]
        if len(set(addresses)) < len(addresses):
            raise ValueError("a destination is there twice: join its results with +")
        return self

    @property
    def decision(self) -> str:
        """What it does, in words."""
        told = f", told to {', '.join(self.webhooks)}" if self.webhooks else ""
        return f"to {', '.join(map(str, self.destinations)) or 'nobody'}{told}"

    def why_not_result(self, images: Sequence[Facts], findings: Iterable[Finding]) -> str:
        """Why it is not the rule for what was found in these images, in words; empty where it is."""
        return self.why_not(images) or self._against_what(findings)

    def _against_what(self, findings: Iterable[Finding]) -> str:
        if not self.finding:
            return ""
        what = " or ".join(self.finding)
        scores = [found.score for found in findings if found.reported and found.label in self.finding]
        if not scores:
            return f"no {what} is reported"
        if self.minimum_score is not None and max(scores) < self.minimum_score:
            return f"{what} has a score of {max(scores):.2f}, below {self.minimum_score:g}"
        return ""


def _words(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


def _any_fits(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    return any(
        fnmatchcase(text.casefold(), pattern.casefold()) for pattern in patterns for text in texts if text
    )


def first_complaint(errors: Sequence[Any]) -> tuple[tuple[str | int, ...], str]:
    """Where and what the first of pydantic's complaints about rules is."""
    first = errors[0]
    where = tuple(first["loc"])
    if first["type"] == "extra_forbidden":
        return where, f"unknown key {str(where[-1])!r}"
    if first["type"] == "missing":
        return where, f"{where[-1]} is missing"
    name = next((str(part) for part in reversed(where) if isinstance(part, str)), "")
    return where, f"{name}: {first['msg'].removeprefix('Value error, ')}"
