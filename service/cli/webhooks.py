"""The command ``webhook-test``: whether a webhook's receiver takes what we post."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.cli.options import AsJSON, Config, DataDir, settings_as_given
from service.errors import NodeError, SettingsError
from service.settings import Settings
from service.webhooks.message import trial_message
from service.webhooks.posting import post
from service.webhooks.webhook import Webhook

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a webhook in the settings.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("webhook-test")(webhook_test)


def webhook_test(
    name: Name, config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False
) -> None:
    """Post a test message to a webhook at once, and say what came back. It tells of no study.

    Exit code 0 where the receiver took it (2xx), 1 where it did not, 2 where there is no such webhook.

    Example: litegpt-node webhook-test radiology
    """
    webhook = _named(settings_as_given(config, data_dir=data_dir), name)
    status, error, begun = None, "", time.monotonic()
    try:
        status = post(webhook, f"test-{uuid.uuid4()}", trial_message())
    except NodeError as refusal:
        error = str(refusal)
    seconds = time.monotonic() - begun
    if as_json:
        came = {"webhook": name, "status": status, "error": error, "seconds": round(seconds, 3)}
        typer.echo(json.dumps(came))
    else:
        mark = ("no ", "red") if error else ("ok ", "green")
        words = error or f"{webhook.origin} answered {status}"
        Console(soft_wrap=True, highlight=False).print(Text.assemble(mark, f" {words}, {seconds:.2f} s"))
    raise typer.Exit(1 if error else 0)


def _named(settings: Settings, name: str) -> Webhook:
    for webhook in settings.webhooks:
        if webhook.name == name:
            return webhook
    known = ", ".join(webhook.name for webhook in settings.webhooks) or "none"
    raise SettingsError(f"no webhook {name} is set up; there are: {known}")
