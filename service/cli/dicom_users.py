"""The command ``dicom-user``: a line for the file of users that who sends by DICOM must name."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.users import PasswordFile, asked_hash


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("dicom-user")(dicom_user)


def dicom_user(
    name: Annotated[str, typer.Argument(help="The user's name, as the modality or PACS sends it.")],
    password_file: PasswordFile = None,
) -> None:
    """Print a line for `dicom_users_file`: a user that who calls by DICOM may name, with a password's hash.

    The password is asked for twice, or read from a file. It cannot be got back from the line.

    Example: litegpt-node dicom-user ct1 >> /etc/litegpt/dicom-users
    """
    if not name or ":" in name or name.startswith("#") or name != name.strip():
        raise typer.BadParameter("a name has no colon, no # before it and no spaces around it")
    typer.echo(f"{name}:{asked_hash(password_file)}")
