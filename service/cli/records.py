"""Commands about the node's footing: ``migrate`` and ``check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import ModelError
from litegpt.identity import read_identity
from service.archive import Archive
from service.cli.options import (
    Config,
    DataDir,
    Destinations,
    require_folder,
    settings_as_given,
    settings_of_process,
)
from service.errors import NodeError, SettingsError
from service.queue import Bell
from service.records.database import Records, durability_complaint
from service.records.migrate import migrate as migrate_records
from service.records.migrate import pending
from service.settings import Destination, Settings
from service.wire.sender import Sender


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (migrate, check):
        app.command()(command)


def migrate(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring the database to the present schema. `up` does it by itself for the embedded one."""
    settings = settings_of_process(config, data_dir=data_dir)
    records = Records.open(settings)
    before, after = migrate_records(records.engine)
    records.close()
    if before == after:
        typer.echo(f"the database is at {after} already")
    else:
        typer.echo(f"the database went from {before or 'empty'} to {after}")


def check(config: Config = None, data_dir: DataDir = None, destination: Destinations = None) -> None:
    """Look whether everything a node needs is in order, and say what is not. Changes nothing.

    Exit code 0 where all is well, else 1.
    """
    settings = settings_as_given(config, data_dir=data_dir, destinations=destination)
    console = Console(soft_wrap=True, highlight=False)
    failed = False
    for line in _examine(settings):
        failed |= line.complaint is not None
        mark, colour = ("ok ", "green") if line.complaint is None else ("no ", "red")
        console.print(Text.assemble((mark, colour), f" {line.name:<22} {line.complaint or line.fact}"))
    raise typer.Exit(1 if failed else 0)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at: a fact, or a complaint."""

    name: str
    fact: str
    complaint: str | None = None


def _examine(settings: Settings) -> Iterator[Line]:
    yield Line("settings", f"AE title {settings.ae_title}, port {settings.dicom_port}")
    yield _line("model", lambda: _model(settings))
    yield _line("archive", lambda: _archive(settings))
    yield _line("database", lambda: _database(settings))
    yield _line("broker", lambda: _broker(settings))
    if not settings.destinations:
        yield Line("destinations", "none: results stay in the node")
    for to in settings.destinations:
        yield _line(str(to), partial(_echo, settings, to))


def _line(name: str, look: Callable[[], str]) -> Line:
    try:
        return Line(name, look())
    except (NodeError, ModelError) as error:
        return Line(name, "", str(error))
    except PermissionError as error:
        return Line(name, "", f"no permission for {error.filename or error}")


def _model(settings: Settings) -> str:
    identity = read_identity(settings.model)
    return f"{identity.id} {identity.version}{', a demonstration' if identity.demonstration else ''}"


def _archive(settings: Settings) -> str:
    require_folder(settings.data_dir)
    if not settings.data_dir.is_dir():
        return f"{settings.data_dir} does not exist yet; `up` makes it"
    archive = Archive(settings.data_dir)
    if archive.incoming.is_dir():
        archive.probe()
    free = archive.free_bytes()
    if free < settings.minimum_free_bytes:
        raise SettingsError(f"{free / 1e9:.1f} GB free: images are refused below minimum_free_bytes")
    return f"{archive.root}, {free / 1e9:.1f} GB free"


def _database(settings: Settings) -> str:
    embedded = settings.embedded_database
    if embedded and not embedded.is_file():
        return f"{embedded} does not exist yet; `up` makes it"
    records = Records.open(settings)
    try:
        records.require_schema()
        if pending(records.engine):
            raise SettingsError("the schema is not the present one: run `litegpt-node migrate`")
        complaint = durability_complaint(records.engine)
        if complaint:
            raise SettingsError(complaint)
        return records.engine.dialect.name
    finally:
        records.close()


def _echo(settings: Settings, destination: Destination) -> str:
    Sender(settings).echo(destination)
    return "answers C-ECHO"


def _broker(settings: Settings) -> str:
    if settings.broker_url is None:
        return "files in the data folder"
    Bell(settings).check()
    return "answers"
