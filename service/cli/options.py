"""Options that several commands share, and how they become settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer
from sqlalchemy.orm import Session

from service import logs
from service.errors import SettingsError
from service.own_files import require_folder
from service.peers import Destination
from service.records.database import Records
from service.settings import Settings, load_settings

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (TOML); node.toml in this folder by default.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of images, results and records.")]
DicomPort = Annotated[int | None, typer.Option("--dicom-port", help="Port of the listener.")]
AETitle = Annotated[str | None, typer.Option("--ae-title", help="Our application entity title.")]
Destinations = Annotated[
    list[str] | None,
    typer.Option("--destination", metavar="AET@HOST:PORT", help="Where results go; may be repeated."),
]
QuietSeconds = Annotated[
    float | None, typer.Option("--quiet-seconds", help="Silence after which a study is complete.")
]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d"], metavar="DATE", help="Studies received that day or later."),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until", formats=["%Y-%m-%d"], metavar="DATE", help="Studies received that day or earlier."
    ),
]
_DURATIONS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
AsJSON = Annotated[bool, typer.Option("--json", help="For scripts: JSON instead of a table.")]


def settings_of_process(config: Path | None, **overrides: Any) -> Settings:
    """Builds the settings and configures logging by them; what nearly every command's ``main`` does first.

    Raises:
        SettingsError: If a setting is wrong, or the data folder cannot be one.
    """
    settings = settings_as_given(config, **overrides)
    require_folder(settings.data_dir)
    return settings


def settings_as_given(config: Path | None, **overrides: Any) -> Settings:
    """The same without a look at the data folder, for the command that says itself what is wrong there.

    Raises:
        SettingsError: If a setting is wrong.
    """
    settings = load_settings(config, **{name: value for name, value in overrides.items() if value != []})
    logs.configure(settings.log_level, settings.log_format)
    return settings


def open_records(settings: Settings) -> Records:
    """The records of a node that is there; the command closes them.

    Raises:
        SettingsError: If there is no node, or its database has no tables.
    """
    if settings.embedded_database and not settings.embedded_database.is_file():
        raise SettingsError(f"there is no node in {settings.data_dir}")
    records = Records.open(settings)
    try:
        records.require_schema()
    except SettingsError:
        records.close()
        raise
    return records


@contextmanager
def changing(config: Path | None, data_dir: Path | None) -> Iterator[Session]:
    """One transaction on the records of the node that the options name.

    Raises:
        SettingsError: If there is no node, or its database has no tables.
    """
    records = open_records(settings_of_process(config, data_dir=data_dir))
    try:
        with records.writing() as session:
            yield session
    finally:
        records.close()


def begin_of(day: datetime | None, zone: ZoneInfo) -> datetime | None:
    """When a day begins at the hospital.

    Raises:
        typer.BadParameter: If no study can have come on it.
    """
    return None if day is None else _moment(day, time.min, zone)


def end_of(day: datetime | None, zone: ZoneInfo) -> datetime | None:
    """When a day ends at the hospital.

    Raises:
        typer.BadParameter: If no study can have come on it.
    """
    return None if day is None else _moment(day, time.max, zone)


def _moment(day: datetime, at: time, zone: ZoneInfo) -> datetime:
    try:
        return datetime.combine(day.date(), at, zone).astimezone(UTC)
    except OverflowError:
        raise typer.BadParameter(f"no day that a study can have come on: {day:%Y-%m-%d}") from None


def duration(text: str) -> timedelta:
    """Reads ``90s``, ``30m``, ``2h`` or ``3d``.

    Raises:
        typer.BadParameter: If it is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,5})([smhd])", text.strip())
    if not match:
        raise typer.BadParameter(
            f"a duration is written 30m, 2h or 3d, not {text!r}", param_hint="--older-than"
        )
    return timedelta(**{_DURATIONS[match[2]]: int(match[1])})


def destination_of(text: str) -> Destination:
    """A destination as an option names it.

    Raises:
        SettingsError: If it is written otherwise.
    """
    try:
        return Destination.parse(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None
