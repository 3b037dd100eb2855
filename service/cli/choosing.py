"""Options by which several commands choose studies; ``choosing`` gives them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from litegpt.vocabulary import LABELS
from service.cli.options import Since, Until, begin_of, destination_of, end_of
from service.errors import SettingsError
from service.records.selection import STATES, Selection
from service.settings import Settings

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="STUDY...", help="Study Instance UIDs or their beginnings, accession numbers."),
]
AllStudies = Annotated[bool, typer.Option("--all", help="Every study there is.")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help=f"Where they stand: {', '.join(STATES)}. May be repeated."),
]
StudyDates = Annotated[
    str,
    typer.Option(metavar="DATE[..DATE]", help="Study Date, or first and last: 2024-01-01..2024-06-30."),
]
Accessions = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File with an accession number on each line.")
]
Model = Annotated[
    str, typer.Option("--by-model", metavar="VERSION", help="Last read by this version of a model.")
]
Label = Annotated[str, typer.Option("--label", help="With this finding, as it is named in reports.")]
MinimumScore = Annotated[float, typer.Option(min=0, max=1, help="Of that finding.")]
AtDestination = Annotated[
    str, typer.Option("--destination", metavar="AET@HOST:PORT", help="Whose results go there.")
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the options say, before the settings are known.

    Attributes:
        studies: Names.
        options: The others, by the names of ``_OPTIONS``.
    """

    studies: tuple[str, ...]
    options: dict[str, Any]

    def selection(self, settings: Settings) -> Selection:
        """What they mean.

        Raises:
            SettingsError: If they say nothing, or something that cannot be.
        """
        given = self.options
        dates = study_dates(given["study_date"])
        selection = Selection(
            studies=self.studies,
            accession_numbers=_lines(given["accessions"]),
            states=tuple(given["state"] or ()),
            since=begin_of(given["since"], settings.zone),
            until=end_of(given["until"], settings.zone),
            study_dates_from=dates[0],
            study_dates_to=dates[1],
            model=given["by_model"],
            label=_label(given["label"]),
            minimum_score=given["minimum_score"],
            destination=destination_of(to).address if (to := given["destination"]) else "",
        )
        if bool(selection) == given["all_studies"]:
            beside = "--all means every study: nothing else beside it"
            raise SettingsError(
                f"which studies? {beside if selection else 'name them, filter, or say --all'}"
            )
        return selection


_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "all_studies": (AllStudies, False),
    "state": (States, None),
    "since": (Since, None),
    "until": (Until, None),
    "study_date": (StudyDates, ""),
    "accessions": (Accessions, None),
    "by_model": (Model, ""),
    "label": (Label, ""),
    "minimum_score": (MinimumScore, 0.0),
    "destination": (AtDestination, ""),
}


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, whose first parameter is a ``Chosen``, these arguments and options in its place."""

    def with_options(**given: Any) -> None:
        options = {name: given.pop(name) for name in _OPTIONS}
        command(Chosen(tuple(given.pop("studies") or ()), options), **given)

    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in list(inspect.signature(command).parameters.items())[1:]
    ]
    ours = [_parameter("studies", Names, None), *(_parameter(name, *it) for name, it in _OPTIONS.items())]
    with_options.__signature__ = inspect.Signature([*ours, *own])  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in (*ours, *own)}
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    return with_options


def _parameter(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _lines(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    numbers = tuple(line.strip() for line in lines if line.strip())
    if not numbers:
        raise SettingsError(f"{file} has no accession number")
    return numbers


def study_dates(text: str) -> tuple[str, str]:
    """First and last Study Date of ``--study-date``; an empty one is no bound.

    Raises:
        SettingsError: If it is written otherwise.
    """
    first, _, last = text.partition("..")
    try:
        return tuple(_date(day) for day in (first, last or first))  # type: ignore[return-value]
    except ValueError:
        forms = "2024-01-31 or 2024-01-01..2024-06-30"
        raise SettingsError(f"a study date is written {forms}, not {text!r}") from None


def _date(text: str) -> str:
    return datetime.strptime(text, "%Y-%m-%d").strftime("%Y%m%d") if text else ""


def _label(text: str) -> str:
    known = {label.lower(): label for label in LABELS}
    if text and text.lower() not in known:
        raise SettingsError(f"no finding is called {text!r}; there are {', '.join(known.values())}")
    return known.get(text.lower(), "")
