"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service import logs
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
AsJSON = Annotated[bool, typer.Option("--json", help="For scripts: JSON instead of a table.")]


def settings_of_process(config: Path | None, **overrides: Any) -> Settings:
    """Builds the settings and configures logging by them; what every command's ``main`` does first.

    Raises:
        SettingsError: If a setting is wrong.
    """
    settings = load_settings(config, **{name: value for name, value in overrides.items() if value != []})
    logs.configure(settings.log_level)
    return settings
