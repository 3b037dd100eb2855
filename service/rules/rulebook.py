"""The rules of a node: read from a file, and read again when it changes, without a restart."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from litegpt.findings import Finding
from service.errors import SettingsError
from service.peers import Destination, ResultKind
from service.rules.facts import Facts
from service.rules.place import line_and_column
from service.rules.rule import DEFAULT, ResultRule, Rule, StudyRule, first_complaint
from service.settings import Settings

log = logging.getLogger(__name__)


class _File(BaseModel):
    """The rules as a file has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_rules: tuple[StudyRule, ...] = ()
    result_rules: tuple[ResultRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """Both lists in their order, each with its default at the end.

    Attributes:
        study, result: The lists.
        forward_images_to: Where images are passed on to of which no rule says otherwise.
    """

    study: tuple[StudyRule, ...]
    result: tuple[ResultRule, ...]
    forward_images_to: tuple[Destination, ...]

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Reads the file that the settings name.

        Raises:
            SettingsError: If it cannot be read or is wrong: one line, with the place where it is.
        """
        webhooks = [webhook.name for webhook in settings.webhooks]
        file = _File() if settings.rules_file is None else _read(settings.rules_file, webhooks)
        default = StudyRule(name=DEFAULT, forward_images_to=settings.forward_images_to or None)
        return cls(
            study=(*file.study_rules, default),
            result=(*file.result_rules, ResultRule(name=DEFAULT, destinations=settings.destinations)),
            forward_images_to=settings.forward_images_to,
        )

    def for_study(self, images: Sequence[Facts]) -> StudyRule:
        """The rule for a study that has these images to be read."""
        return next(rule for rule in self.study if not rule.why_not(images))

    def for_image(self, image: Facts) -> tuple[StudyRule, tuple[Destination, ...]]:
        """The study rule for one image that has come, and where it is passed on to."""
        rule = self.for_study([image])
        said = rule.forward_images_to
        return rule, self.forward_images_to if said is None else said

    def for_result(self, images: Sequence[Facts], findings: Sequence[Finding]) -> ResultRule:
        """The rule for the results of an analysis of these images."""
        return next(rule for rule in self.result if not rule.why_not_result(images, findings))

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Every destination that some rule names, once, with all that it may get."""
        kinds: dict[str, tuple[Destination, set[ResultKind]]] = {}
        for destination in (to for rule in reversed(self.result) for to in rule.destinations):
            kinds.setdefault(destination.address, (destination, set()))[1].update(destination.results)
        return tuple(
            to.model_copy(update={"results": tuple(kind for kind in ResultKind if kind in wanted)})
            for to, wanted in kinds.values()
        )

    def destination_called(self, address: str) -> Destination | None:
        """What the node delivers to at ``AET@HOST:PORT``; one that gets images alone gets no results."""
        named = next((to for to in self.destinations if to.address == address), None)
        forwards = (to for to in self.image_destinations if to.address == address)
        return named or next((to.model_copy(update={"results": ()}) for to in forwards), None)

    @property
    def image_destinations(self) -> tuple[Destination, ...]:
        """Whatever images are passed on to, by the settings or by some rule, each once."""
        by_rules = (to for rule in self.study for to in rule.forward_images_to or ())
        return tuple(dict.fromkeys((*self.forward_images_to, *by_rules)))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Whatever the node delivers to, results or images, each once."""
        return tuple(dict.fromkeys(to.address for to in (*self.destinations, *self.image_destinations)))


class Rulebook:
    """The rules in force. A file that has become wrong is refused, and the old rules stay."""

    def __init__(self, settings: Settings) -> None:
        """Reads the rules.

        Raises:
            SettingsError: If the file cannot be read or is wrong.
        """
        self._settings = settings
        self._complaint = ""
        self._seen = _state_of(settings.rules_file)
        self._rules = Rules.read(settings)

    def rules(self) -> Rules:
        """The rules as the file has them now, or had them when it was last in order."""
        state = _state_of(self._settings.rules_file)
        if state != self._seen:
            self._seen = state
            try:
                self._rules = Rules.read(self._settings)
            except SettingsError as error:
                self._complaint = str(error)
                log.error("the rules as they were stay in force: %s", error)
            else:
                self._complaint = ""
                study, result = len(self._rules.study) - 1, len(self._rules.result) - 1
                log.info("rules read anew: %d for studies, %d for results", study, result)
        return self._rules

    def complaint(self) -> str:
        """What is wrong with the file as it is now; empty where its rules are in force."""
        self.rules()
        return self._complaint


def written_rules(settings: Settings) -> dict[str, Any]:
    """The rules as their file has them, without the settings that may stand beside them.

    Raises:
        SettingsError: If it cannot be read or parsed.
    """
    return _without_settings(_parsed(settings.rules_file)[1]) if settings.rules_file else {}


def _state_of(file: Path | None) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    try:
        status = file.stat() if file else None
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else ()


_NAMED_TWICE: Final = "the name {!r} is there twice"
_RESERVED: Final = "the name 'default' is that of the rule which stands last by itself"


def _parsed(file: Path) -> tuple[str, dict[str, Any]]:
    """A TOML file's text and values."""
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"rules: {file}: {error.strerror or error}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"rules: {file}: {error}") from None


def _read(file: Path, webhooks: Sequence[str]) -> _File:
    text, values = _parsed(file)
    try:
        parsed = _File.model_validate(_without_settings(values))
    except ValidationError as error:
        raise _wrong(file, text, *first_complaint(error.errors(include_url=False))) from None
    for table, of_table in (("study_rules", parsed.study_rules), ("result_rules", parsed.result_rules)):
        _require_names(file, text, table, of_table)
    for number, rule in enumerate(parsed.result_rules):
        for name in rule.webhooks:
            if name not in webhooks:
                raise _wrong(
                    file, text, ("result_rules", number, "webhooks"), f"there is no webhook {name!r}"
                )
    return parsed


def _without_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Settings may stand beside the rules; they are checked where they are read."""
    return {name: value for name, value in values.items() if name not in Settings.model_fields}


def _require_names(file: Path, text: str, table: str, rules: Sequence[Rule]) -> None:
    names = [rule.name for rule in rules]
    for number, name in enumerate(names):
        if name == DEFAULT or name in names[:number]:
            what = _RESERVED if name == DEFAULT else _NAMED_TWICE.format(name)
            raise _wrong(file, text, (table, number, "name"), what)


def _wrong(file: Path, text: str, path: Sequence[str | int], what: str) -> SettingsError:
    # Deeper than the key there is nothing that stands on lines of its own.
    line, column = line_and_column(text, path[:3])
    return SettingsError(f"rules: {file}, line {line}, column {column}: {what}")
