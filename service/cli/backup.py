"""The commands ``backup`` and ``restore``: a node's records into one file, and back into an empty node."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from service.archive import Archive
from service.backup.form import Manifest, OnProgress
from service.backup.reading import Backup
from service.backup.restoring import Trouble, compare, require_restorable, restore
from service.backup.writing import write_backup
from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.errors import SettingsError
from service.own_files import require_folder
from service.records.database import Records, utc_now
from service.settings import Settings
from service.supervisor import alone_in

_LISTED: Final = 20

Target = Annotated[Path, typer.Argument(metavar="FILE-OR-FOLDER", help="A folder names it by the time.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A backup of a node.")]
Into = Annotated[Path, typer.Option("--into", help="Data folder of the node, which must have no records.")]
WithImages = Annotated[
    bool, typer.Option("--with-images", help="The archive's files, too: images as received, and results.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Verify the backup, and the archive by it; change nothing.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("backup")(backup)
    app.command("restore")(restore_backup)


def backup(
    target: Target,
    config: Config = None,
    data_dir: DataDir = None,
    with_images: WithImages = False,
    as_json: AsJSON = False,
) -> None:
    """Write the node's records into one file, while it runs; with its settings, and an index of its archive.

    Images and results are left to the site's own backup of files, unless --with-images takes them along.
    Passwords are masked. Exit code 1 where files are missing that the records name, 130 after Ctrl-C.

    Example: litegpt-node backup /mnt/backups/
    """
    settings = settings_of_process(config, data_dir=data_dir)
    path = target / f"litegpt-node-{utc_now():%Y%m%d-%H%M%S}.tar" if target.is_dir() else target
    if not path.parent.is_dir():
        raise SettingsError(f"there is no folder {path.parent}")
    signal.signal(signal.SIGTERM, _interrupt)
    records = open_records(settings)
    try:
        with _progress() as on_progress:
            manifest = write_backup(
                settings, records, path.absolute(), with_files=with_images, on_progress=on_progress
            )
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps({"path": str(path), **_as_json(manifest)}, indent=2))
    else:
        _say_what_is_in_it(path, manifest)
    raise typer.Exit(1 if manifest.files.missing else 0)


def restore_backup(
    source: Source,
    into: Into,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
) -> None:
    """Load a backup into an empty node, on SQLite or on the database that the settings name.

    Every digest is checked first, and every file of the archive afterwards. Exit code 1 where the backup is
    damaged, or files are missing or differ; then they are listed.

    Example: litegpt-node restore litegpt-node-20260105-020000.tar --into node-data
    """
    settings = settings_of_process(config, data_dir=into)
    signal.signal(signal.SIGTERM, _interrupt)
    archive = Archive(settings.data_dir)
    with _progress() as on_progress:
        found = Backup.open(source)
        found.verify(on_progress)
        if not dry_run:
            _restore(found, settings, archive, on_progress)
        listed, number = [], 0
        for number, one in enumerate(compare(found, archive, on_progress), start=1):
            if as_json or number <= _LISTED:
                listed.append(one)
    if as_json:
        said = {
            "restored": not dry_run,
            **_as_json(found.manifest),
            "troubles": [asdict(one) for one in listed],
        }
        typer.echo(json.dumps(said, indent=2))
    else:
        _say_what_came(found, listed, number, dry_run)
    raise typer.Exit(1 if number else 0)


def _restore(found: Backup, settings: Settings, archive: Archive, on_progress: OnProgress) -> None:
    require_folder(settings.data_dir)
    with alone_in(settings.data_dir):
        records = Records.open(settings)
        try:
            require_restorable(found, records)
            restore(found, records, archive, on_progress)
        finally:
            records.close()


def _interrupt(*_: object) -> NoReturn:
    """A request to end is as good as Ctrl-C: nothing half is left."""
    raise KeyboardInterrupt


def _as_json(manifest: Manifest) -> dict[str, Any]:
    return {
        **manifest.model_dump(mode="json", exclude={"form", "form_version", "parts"}),
        "rows": manifest.rows,
    }


def _say_what_is_in_it(path: Path, manifest: Manifest) -> None:
    files = manifest.files
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"{path}: {_size(path.stat().st_size)}"))
    for table, rows in manifest.rows.items():
        console.print(f"{table:<16}{rows:>10}")
    if manifest.with_files:
        console.print(f"{'files':<16}{files.number - files.missing:>10}")
    else:
        console.print(
            f"NOT in it are the {files.number} files of the archive ({_size(files.size_bytes)}: images, "
            "results), only their paths and digests: back the data folder up as files, or say --with-images.",
            style="yellow",
        )
    if files.missing:
        console.print(f"{files.missing} files that the records name are missing in the archive.", style="red")


def _say_what_came(found: Backup, listed: list[Trouble], troubles: int, dry_run: bool) -> None:
    manifest, console = found.manifest, Console(highlight=False, soft_wrap=True)
    rows = f"{manifest.rows.get('study', 0)} studies, {sum(manifest.rows.values())} rows"
    made_at = f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"The backup of {made_at} is whole: schema {manifest.schema_revision}, {rows}.")
    for one in listed:
        console.print(Text(f"{one.path}: {one.what}"))
    if troubles > len(listed):
        console.print(f"and {troubles - len(listed)} more: --json lists them")
    if troubles:
        named = f"{troubles} of the {manifest.files.number} files that it names"
        console.print(f"{named} are not in the archive as they should be.", style="red")
    else:
        console.print(f"The {manifest.files.number} files that it names are in the archive, byte for byte.")
    if dry_run:
        console.print("Nothing was changed.")
    elif troubles:
        console.print("The records are restored. Bring these files back before you start the node.")
    else:
        console.print("Restored: the node goes on where the backup was made.")


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar a step for a person at a terminal; for anyone else nothing."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def on_progress(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step, total=total)
        progress.update(tasks[step], completed=done)

    with progress:
        yield on_progress
