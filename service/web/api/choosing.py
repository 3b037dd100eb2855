"""How a request says which studies it means: those that it names, those that filters mean, or all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from litegpt.vocabulary import LABELS
from service.errors import NotThere, SettingsError
from service.records.database import Records
from service.records.selection import STATES, Selection, not_recorded
from service.web.filters import Filters

_AT_ONCE: Final = 1000
_WORDS: Final = r"^[!-~\u00c0-\u024f]([ -~\u00c0-\u024f]*[!-~\u00c0-\u024f])?$"
"""Not only blanks: those are as good as nothing, and nothing means all."""


def _one_of(words: Iterable[str]) -> tuple[Callable[[str], str], dict[str, Any]]:
    """Looks whether a text is one of these words; and the schema that says so."""
    known = list(words)

    def look(text: str) -> str:
        if text not in known:
            raise ValueError(f"it is none of {', '.join(known)}")
        return text

    return look, {"type": "string", "enum": known}


def _a_day(text: str) -> str:
    date.fromisoformat(text)
    return text


def _left_out(schema: dict[str, Any]) -> None:
    """What may be left out is not null otherwise."""
    schema.pop("default", None)


def maybe(description: str, **limits: Any) -> Any:
    """A field that may be left out."""
    return Field(None, description=description, json_schema_extra=_left_out, **limits)


_is_state, _state_schema = _one_of(STATES)
_is_label, _label_schema = _one_of(LABELS)

State = Annotated[str, AfterValidator(_is_state), WithJsonSchema(_state_schema)]
Label = Annotated[str, AfterValidator(_is_label), WithJsonSchema(_label_schema)]
Day = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_a_day),
    WithJsonSchema({"type": "string", "format": "date"}),
]
Words = Annotated[str, Field(max_length=200, pattern=_WORDS)]
StudyUID = Annotated[str, Field(pattern=r"^[0-9][0-9.]{0,63}$")]


class StudyFilter(BaseModel):
    """Conditions on studies; a study is meant where all that are given hold."""

    model_config = ConfigDict(extra="forbid")

    state: State = maybe("Where they stand.")
    since: Day = maybe("Received on this day or later, by the hospital's clock.")
    until: Day = maybe("Received on this day or earlier.")
    study_since: Day = maybe("Study Date on this day or later.")
    study_until: Day = maybe("Study Date on this day or earlier.")
    label: Label = maybe("A finding that results tell.")
    score: float = maybe("Least score of that finding; only beside `label`.", ge=0, le=1, allow_inf_nan=False)
    model: Words = maybe("Version of the model that read them last, or its id and version.")
    destination: Words = maybe("Their results go there: `AET@HOST:PORT`.")

    @model_validator(mode="after")
    def _score_of_something(self) -> Self:
        if "score" in self.model_fields_set and "label" not in self.model_fields_set:
            raise ValueError("a score is one of a label: name the label, too")
        return self

    def filters(self) -> Filters:
        """The same as the pages have it."""
        given = self.model_dump(exclude_unset=True)
        return Filters.read({name: str(value) for name, value in given.items()})


class StudyQuery(StudyFilter):
    """The same for the list of studies, and which page of it."""

    study: Words = maybe("Study Instance UID or its beginning, or accession number.")
    after: str = maybe(
        "Where the page begins: `next` of the page before.",
        max_length=40,
        pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}-[0-9]{1,10}$",
    )


class ChosenFilter(StudyFilter):
    """The same for an action: at least one condition is given."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"minProperties": 1, "dependentRequired": {"score": ["label"]}}
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError('say which, or "all"')
        return self


Named = Annotated[list[StudyUID], Field(min_length=1, max_length=_AT_ONCE)]
Chosen = Named | ChosenFilter | Literal["all"]
"""UIDs, or conditions, or all studies that there are."""


def selection_of(chosen: Chosen, records: Records, zone: ZoneInfo) -> Selection:
    """Which studies are meant.

    Raises:
        NotThere: If a study that is named is not in the records.
        SettingsError: If a condition is nothing that can be meant.
    """
    if isinstance(chosen, str):
        return Selection()
    if isinstance(chosen, ChosenFilter):
        selection = chosen.filters().selection(zone)
        if not selection:
            raise SettingsError('These conditions say nothing. All studies are "all".')
        return selection
    with records.reading() as session:
        missing = not_recorded(session, chosen)
    if missing:
        more = f", nor {len(missing) - 1} others that are named" if missing[1:] else ""
        raise NotThere(f"There is no study {missing[0]}{more}.")
    return Selection(studies=tuple(chosen))
