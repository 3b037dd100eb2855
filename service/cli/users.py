"""Commands about who may sign in at the pages: ``user add``, ``list``, ``role``, ``password``, ``remove``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.options import AsJSON, Config, DataDir, changing, open_records, settings_of_process
from service.cli.who import who
from service.errors import SettingsError
from service.passwords import hash_password
from service.records import users
from service.records.journal import write_down
from service.records.states import Role

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="File whose first line is the password."),
]


def register(app: typer.Typer) -> None:
    """Adds these commands, as one group."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("add")(add)
    group.command("list")(list_)
    group.command("role")(role)
    group.command("password")(password)
    group.command("remove")(remove)
    app.add_typer(group, name="user")


_HELP = """Say who may sign in at the node's pages, and what they may do there.

A viewer sees everything but the audit, an operator also acts on studies, an admin also sees the audit.

Example: litegpt-node user add anna --role operator --password-file FILE
"""


def add(
    name: Name,
    role: Annotated[Role, typer.Option("--role", help="What the user may do.")] = Role.VIEWER,
    password_file: PasswordFile = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Add a user. The password is asked for twice, or read from a file.

    Example: litegpt-node user add anna --role operator
    """
    with changing(config, data_dir) as session:
        users.add_user(session, name, asked_hash(password_file), role)
        write_down(session, who(), "user add", user=name, role=role)
    typer.echo(f"{name} may sign in as {role}")


def list_(config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """List the users."""
    records = open_records(settings_of_process(config, data_dir=data_dir))
    with records.reading() as session:
        views = users.list_users(session)
    records.close()
    if as_json:
        rows = [{"name": view.name, "role": view.role, "active": view.active} for view in views]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("name", "role", "added (UTC)", "signed in, last seen (UTC)", box=None, pad_edge=False)
    for view in views:
        seen = f"{view.last_seen_at:%Y-%m-%d %H:%M}" if view.last_seen_at else "-"
        role = view.role if view.active else f"{view.role}, may not sign in"
        table.add_row(view.name, role, f"{view.created_at:%Y-%m-%d}", seen)
    Console(highlight=False).print(table if views else "no users yet")


def role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="What the user may do.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Change what a user may do.

    Example: litegpt-node user role anna admin
    """
    with changing(config, data_dir) as session:
        users.get_user(session, name).role = role
        write_down(session, who(), "user role", user=name, role=role)
    typer.echo(f"{name} is {role} now")


def password(
    name: Name, password_file: PasswordFile = None, config: Config = None, data_dir: DataDir = None
) -> None:
    """Give a user another password; wherever they are signed in, that ends.

    Example: litegpt-node user password anna
    """
    with changing(config, data_dir) as session:
        user = users.get_user(session, name)
        user.password_hash = asked_hash(password_file)
        users.sign_out_everywhere(session, user)
        write_down(session, who(), "user password", user=name)
    typer.echo(f"{name} has a new password")


def remove(name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Remove a user; wherever they are signed in, that ends.

    Example: litegpt-node user remove anna
    """
    with changing(config, data_dir) as session:
        users.remove_user(session, name)
        write_down(session, who(), "user remove", user=name)
        last = not users.there_are_users(session)
    typer.echo(f"{name} is removed")
    if last:
        typer.echo("without any user, whoever works at this machine sees the pages without signing in")


def asked_hash(password_file: Path | None) -> str:
    """Of a password that is asked for twice, or stands in a file.

    Raises:
        SettingsError: If it is too short, or the file cannot be read.
    """
    if password_file is None:
        return hash_password(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        lines = password_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{password_file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    return hash_password(lines[0] if lines else "")
