"""The command ``import``: images from files, folders and zip files into the node."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from service.archive import Archive
from service.cli.options import AsJSON, Config, DataDir, settings_of_process
from service.cli.printable import printable
from service.eligibility import Eligibility
from service.errors import NodeError, SettingsError
from service.importing import sources
from service.importing.foresight import Foresight
from service.importing.importer import Imported, Importer, Outcome
from service.importing.tally import LISTED, Tally
from service.records.database import Records
from service.records.intake import Receiver
from service.settings import Settings

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files, folders and zip files.")]
ListAll = Annotated[
    bool,
    typer.Option(
        "--list",
        help=f"List each file that is not taken, not only {LISTED} conflicts and {LISTED} unreadable.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be taken; write nothing.")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("import")(import_files)


def import_files(
    paths: Paths,
    config: Config = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
    list_all: ListAll = False,
    as_json: AsJSON = False,
) -> None:
    """Take images from files, folders and zip files, as if a modality had sent them. Run again, it resumes.

    Exit code 0 where all is in the node now, 1 where something could not be read, 130 after Ctrl-C.

    Example: litegpt-node import /media/cdrom

    Example: litegpt-node import --dry-run --list old-archive/ more.zip
    """
    settings = settings_of_process(config, data_dir=data_dir)
    # A line per image is for a listener's log; here it would tear the progress bar.
    logging.getLogger("service.records.intake").setLevel(max(logging.WARNING, logging.root.level))
    _require_paths(paths, settings.data_dir)
    tally = Tally(list_all)
    account: Account = (AccountAsJSON if as_json else Account)(dry_run)
    error: NodeError | None = None
    interrupted = False
    try:
        with closing(_import(settings, paths, dry_run)) as imported:
            for one in imported:
                if tally.add(one):
                    account.list(one)
    except KeyboardInterrupt:
        interrupted = True
    except SettingsError:
        raise
    except NodeError as trouble:
        error = trouble
    account.end(tally, error, interrupted)
    if error is not None:
        raise error
    raise typer.Exit(130 if interrupted else int(tally.has_trouble))


@dataclass(slots=True)
class Account:
    """Prints each file that is to be listed as it comes, and the sums in the end."""

    dry_run: bool

    def list(self, one: Imported) -> None:
        """A file that is not taken."""
        print(printable(f"{one.outcome}: {one.name}{f': {one.reason}' if one.reason else ''}"))

    def end(self, tally: Tally, error: NodeError | None, interrupted: bool) -> None:
        """The sums."""
        for outcome, number in tally.not_listed.items():
            print(f"{outcome}: {number} more (--list)")
        for outcome in Outcome:
            name = "would take" if self.dry_run and outcome is Outcome.TAKEN else outcome.value
            print(f"{name:<12}{tally.counts[outcome]:>9}")
            if outcome is Outcome.TAKEN:
                for reason, number in tally.reasons.most_common():
                    print(printable(f"  not to be analysed {number:>9}  {reason}"))
        if interrupted or error:
            safe = "" if self.dry_run else "; what was taken is safe. The same command goes on from here"
            print(f"Stopped before the end{safe}.")
        elif not self.dry_run:
            print("Studies are analysed once they are quiet, while the node runs (litegpt-node up).")


@dataclass(slots=True)
class AccountAsJSON(Account):
    """The same as one JSON object, written as it comes: what is listed comes first."""

    separator: str = ""

    def list(self, one: Imported) -> None:
        """A file that is not taken."""
        entry = {"outcome": one.outcome.name.lower(), "name": one.name, "reason": one.reason}
        self._begin()
        print(f"    {self.separator}{json.dumps(entry)}")
        self.separator = ","

    def end(self, tally: Tally, error: NodeError | None, interrupted: bool) -> None:
        """The sums."""
        sums: dict[str, Any] = {
            "not_listed": {outcome.name.lower(): number for outcome, number in tally.not_listed.items()},
            "dry_run": self.dry_run,
            **{outcome.name.lower(): tally.counts[outcome] for outcome in Outcome},
            "taken_bytes": tally.size_bytes,
            "not_to_be_analysed": dict(tally.reasons),
            "interrupted": interrupted,
            "error": str(error) if error else "",
        }
        self._begin()
        print(f"  ],\n{json.dumps(sums, indent=2)[2:]}")

    def _begin(self) -> None:
        if not self.separator:
            self.separator = " "
            print('{\n  "listed": [')


def _require_paths(paths: Sequence[Path], data_dir: Path) -> None:
    for path in paths:
        if not path.exists():
            raise SettingsError(f"there is no {path}")
        if path.resolve().is_relative_to(data_dir.resolve()):
            raise SettingsError(f"{path} lies in the node's own data folder")


def _import(settings: Settings, paths: Sequence[Path], dry_run: bool) -> Generator[Imported, None, None]:
    if settings.embedded_database and not settings.embedded_database.is_file():
        raise SettingsError(f"there is no node in {settings.data_dir}: run `litegpt-node migrate` first")
    archive, records = Archive(settings.data_dir), Records.open(settings)
    try:
        records.require_schema()
        if not dry_run:
            archive.prepare()
        receiver = Receiver(records, archive, Eligibility.of(settings))
        with (
            Foresight(receiver) if dry_run else nullcontext() as foresight,
            _progress(paths, settings.data_dir) as advance,
        ):
            importer = Importer(receiver, settings.minimum_free_bytes, foresight)
            for found in sources.find(paths, settings.data_dir):
                yield importer.take(found)
                advance()
    finally:
        records.close()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.{1 if task.speed < 10 else 0}f} files/s" if task.speed else "")


@contextmanager
def _progress(paths: Sequence[Path], data_dir: Path) -> Iterator[Callable[[], object]]:
    """A bar for a person at a terminal; for anyone else nothing, and no time spent on counting."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # What is listed goes above the bar where both are on the terminal, and else to where it was sent.
    to_terminal = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=to_terminal) as progress:
        task = progress.add_task("counting", total=None, left="")
        total = sources.count(paths, data_dir)
        progress.update(task, description="importing", total=total, left="left")
        yield lambda: progress.advance(task)
