"""The command ``import``: images from files, folders and zip files into the node."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from service.archive import Archive
from service.cli.options import AsJSON, Config, DataDir, settings_of_process
from service.cli.printable import printable
from service.eligibility import Eligibility
from service.errors import NodeError, SettingsError
from service.importing import sources
from service.importing.importer import Imported, Importer, Outcome
from service.records.database import Records
from service.records.intake import Receiver
from service.settings import Settings

_LISTED: Final = 20

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files, folders and zip files.")]
ListAll = Annotated[bool, typer.Option("--list", help="List all, not the first 20; duplicates too.")]
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
    tally = Tally(dry_run, None if list_all else _LISTED, None if list_all or as_json else _LISTED)
    code, error = 0, None
    try:
        _import(settings, paths, tally)
    except KeyboardInterrupt:
        code = 130
    except NodeError as trouble:
        code, error = 1, trouble
        if isinstance(trouble, SettingsError):
            raise
    tally.say(as_json, error, interrupted=code == 130)
    if error is not None:
        raise error
    raise typer.Exit(code or int(tally.has_trouble))


@dataclass(slots=True)
class Tally:
    """What became of the files: counts of all, and as many names as are to be listed."""

    dry_run: bool
    duplicates_listed: int | None
    troubles_listed: int | None
    counts: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    listed: dict[Outcome, list[Imported]] = field(default_factory=dict)

    def add(self, one: Imported) -> None:
        """Counts a file."""
        self.counts[one.outcome] += 1
        self.size_bytes += one.size_bytes
        if one.outcome is Outcome.TAKEN:
            if one.reason:
                self.reasons[one.reason] += 1
        elif one.outcome is not Outcome.NOT_DICOM:
            duplicate = one.outcome is Outcome.DUPLICATE
            limit = self.duplicates_listed if duplicate else self.troubles_listed
            names = self.listed.setdefault(one.outcome, [])
            if limit is None or len(names) < limit:
                names.append(one)

    @property
    def has_trouble(self) -> bool:
        """Whether something was found that is not in the node now."""
        return self.counts[Outcome.UNREADABLE] > 0

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {
            "dry_run": self.dry_run,
            **{outcome.name.lower(): self.counts[outcome] for outcome in Outcome},
            "taken_bytes": self.size_bytes,
            "not_to_be_analysed": dict(self.reasons),
            "listed": {
                outcome.name.lower(): [{"name": one.name, "reason": one.reason} for one in names]
                for outcome, names in self.listed.items()
            },
        }

    def say(self, as_json: bool, error: NodeError | None, *, interrupted: bool) -> None:
        """Prints it all."""
        if as_json:
            ended = {"interrupted": interrupted, "error": str(error) if error else ""}
            typer.echo(json.dumps({**self.as_json(), **ended}, indent=2))
            return
        console = Console(highlight=False, soft_wrap=True)
        for line in self._lines():
            console.print(Text(printable(line)))
        if interrupted or error:
            console.print(
                "Stopped before the end; what was taken is safe. The same command goes on from here."
            )
        elif not self.dry_run:
            console.print("Studies are analysed once they are quiet, while the node runs (litegpt-node up).")

    def _lines(self) -> Iterator[str]:
        for outcome in Outcome:
            name = "would take" if self.dry_run and outcome is Outcome.TAKEN else outcome.value
            yield f"{name:<12}{self.counts[outcome]:>9}"
            if outcome is Outcome.TAKEN:
                for reason, number in self.reasons.most_common():
                    yield f"  not to be analysed {number:>9}  {reason}"
        for outcome, names in self.listed.items():
            if outcome is Outcome.DUPLICATE and self.duplicates_listed is not None:
                continue
            for one in names:
                yield f"{outcome}: {one.name}{f': {one.reason}' if one.reason else ''}"
            if len(names) < self.counts[outcome]:
                yield f"{outcome}: {self.counts[outcome] - len(names)} more (--list)"


def _require_paths(paths: Sequence[Path], data_dir: Path) -> None:
    for path in paths:
        if not path.exists():
            raise SettingsError(f"there is no {path}")
        if path.resolve().is_relative_to(data_dir.resolve()):
            raise SettingsError(f"{path} lies in the node's own data folder")


def _import(settings: Settings, paths: Sequence[Path], tally: Tally) -> None:
    if settings.embedded_database and not settings.embedded_database.is_file():
        raise SettingsError(f"there is no node in {settings.data_dir}: run `litegpt-node migrate` first")
    archive, records = Archive(settings.data_dir), Records.open(settings)
    try:
        records.require_schema()
        if not tally.dry_run:
            archive.prepare()
        receiver = Receiver(records, archive, Eligibility.of(settings))
        importer = Importer(receiver, settings.minimum_free_bytes, tally.dry_run)
        with _progress(paths, settings.data_dir) as advance:
            for found in sources.find(paths, settings.data_dir):
                tally.add(importer.take(found))
                advance()
    finally:
        records.close()


class _Advance(Protocol):
    def __call__(self) -> None: ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} files/s" if task.speed else "- files/s")


@contextmanager
def _progress(paths: Sequence[Path], data_dir: Path) -> Iterator[_Advance]:
    """A bar for a person at a terminal; for anyone else nothing, and no time spent on counting."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("import", total=None)
        progress.update(task, total=sources.count(paths, data_dir))
        yield lambda: progress.advance(task)
