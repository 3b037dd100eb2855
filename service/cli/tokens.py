"""Commands about the clients of the API: ``token add``, ``list``, ``revoke``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.options import AsJSON, Config, DataDir, changing, open_records, settings_of_process
from service.cli.who import who
from service.records import tokens
from service.records.journal import write_down
from service.records.states import Role
from service.records.tokens import LONGEST_DAYS

Name = Annotated[str, typer.Argument(help="The client's name, as the audit will have it.")]


def register(app: typer.Typer) -> None:
    """Adds these commands, as one group."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("add")(add)
    group.command("list")(list_)
    group.command("revoke")(revoke)
    app.add_typer(group, name="token")


_HELP = """Say which programs may use the node's API, and what they may do there.

Roles are those of users: a viewer reads, an operator also acts on studies, an admin also sees the audit.

Example: litegpt-node token add dashboard --role viewer --days 90
"""


def add(
    name: Name,
    role: Annotated[Role, typer.Option("--role", help="What the client may do.")] = Role.VIEWER,
    days: Annotated[int, typer.Option("--days", min=1, max=LONGEST_DAYS, help="For how long.")] = 365,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token for a client, and print it: this once, and alone on standard output.

    A client has one token. After that one is revoked or has expired it can be given another.

    Example: litegpt-node token add dashboard --role viewer --days 90
    """
    with changing(config, data_dir) as session:
        token = tokens.add_token(session, name, role, days)
        write_down(session, who(), "token add", token=name.strip().lower(), role=role, days=days)
    typer.echo(f"{name} may use the API as {role} for {days} days. The token is not shown again:", err=True)
    typer.echo(token)


def list_(config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """List the clients. A token itself is nowhere kept.

    Example: litegpt-node token list --json
    """
    records = open_records(settings_of_process(config, data_dir=data_dir))
    with records.reading() as session:
        views = tokens.list_tokens(session)
    records.close()
    if as_json:
        rows = [
            {
                "name": view.name,
                "role": view.role,
                "state": view.state,
                "created_at": view.created_at.isoformat(),
                "expires_at": view.expires_at.isoformat(),
                "last_used_at": view.last_used_at.isoformat() if view.last_used_at else None,
            }
            for view in views
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("name", "role", "state", "until (UTC)", "last used (UTC)", box=None, pad_edge=False)
    for view in views:
        used = f"{view.last_used_at:%Y-%m-%d %H:%M}" if view.last_used_at else "-"
        table.add_row(view.name, view.role, view.state, f"{view.expires_at:%Y-%m-%d}", used)
    Console(highlight=False).print(table if views else "no tokens yet: the API is closed")


def revoke(name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """End a client's token, at once.

    Example: litegpt-node token revoke dashboard
    """
    with changing(config, data_dir) as session:
        tokens.revoke_token(session, name)
        write_down(session, who(), "token revoke", token=name.strip().lower())
    typer.echo(f"the token of {name} opens nothing any more")
