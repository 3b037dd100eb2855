"""The command ``watch``: a live screen of what the node does, never of whom it is about."""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.cli.studies import coloured
from service.errors import OutOfResources
from service.records.database import Records, utc_now
from service.settings import Settings
from service.watch import Frame, StudyLine, look

_EVERY_SECONDS: Final = 1.0
_KEYS_AT_ONCE: Final = 1024

Once = Annotated[bool, typer.Option("--once", help="Print one frame and end.")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(watch)


def watch(
    config: Config = None, data_dir: DataDir = None, once: Once = False, as_json: AsJSON = False
) -> None:
    """Show what the node does, anew each second, until q or Ctrl-C: rates, queue, destinations, studies.

    --json is one frame for a script; where there is no terminal, one frame is printed.

    Example: litegpt-node watch --once
    """
    settings = settings_of_process(config, data_dir=data_dir)
    records = open_records(settings)
    try:
        if as_json:
            typer.echo(json.dumps(_look(records, settings).as_json(), indent=2))
        elif once or not sys.stdout.isatty():
            Console().print(_screen(_look(records, settings)))
        else:
            _watch(records, settings)
    finally:
        records.close()


def _look(records: Records, settings: Settings) -> Frame:
    with records.snapshot() as session:
        return look(session, settings, utc_now())


def _watch(records: Records, settings: Settings) -> None:
    try:
        with _keys() as pressed_q, Live(screen=True, auto_refresh=False) as live:
            while True:
                live.update(_look_or_say_why(records, settings), refresh=True)
                if pressed_q(_EVERY_SECONDS):
                    return
    except KeyboardInterrupt:
        return


def _look_or_say_why(records: Records, settings: Settings) -> RenderableType:
    """A database that is away comes back: the screen waits for it."""
    try:
        return _screen(_look(records, settings))
    except OutOfResources as error:
        return Text(f"{error}\nIt is tried again each second; q ends.", style="red")


@contextmanager
def _keys() -> Iterator[Any]:
    """What waits some seconds for a q, which needs no Enter; afterwards the terminal is as it was."""
    if not sys.stdin.isatty():
        yield lambda seconds: bool(select.select([], [], [], seconds)[0])
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed_q(seconds: float) -> bool:
        pressed = select.select([sys.stdin], [], [], seconds)[0]
        # Past Python's buffer, in which select would not see what waits.
        return bool(pressed) and b"q" in os.read(sys.stdin.fileno(), _KEYS_AT_ONCE).lower()

    try:
        yield pressed_q
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _screen(frame: Frame) -> RenderableType:
    beats = Text("sweeper runs", "green") if frame.sweeper_beats else Text("no sweeper runs", "red")
    head = Text.assemble(f"{frame.at:%Y-%m-%d %H:%M:%S} UTC   ", beats, "   ", _disk(frame))
    parts: list[RenderableType] = [head, Text(), _flow(frame)]
    if frame.destinations:
        parts += [Text(), _destinations(frame)]
    if frame.studies:
        parts += [Text(), _studies(frame)]
    return Group(*parts)


def _disk(frame: Frame) -> Text:
    free = f"{frame.free_bytes / 1e9:.1f} GB free"
    if frame.free_bytes < frame.minimum_free_bytes:
        return Text(f"{free}: images are refused", "red")
    return Text(free)


def _flow(frame: Frame) -> Table:
    rates, queue = frame.rates, frame.queue
    table = _table(f"per minute, last {rates.window_seconds // 60} min", "", "now", "")
    oldest = f"oldest {_age(frame.at, queue.oldest)}" if queue.oldest else ""
    table.add_row("images received", f"{rates.received:.1f}", "studies receiving", str(queue.receiving))
    table.add_row("analyses ended", f"{rates.analysed:.1f}", "analyses waiting", f"{queue.waiting}  {oldest}")
    table.add_row("objects delivered", f"{rates.delivered:.1f}", "analyses running", str(queue.running))
    return table


def _destinations(frame: Frame) -> Table:
    minutes = frame.rates.window_seconds // 60
    table = _table("delivered to", f"delivered in {minutes} min", "due", "refused")
    for one in frame.destinations:
        refused = Text(str(one.refused), "red" if one.refused else "")
        table.add_row(Text(one.destination), str(one.delivered), str(one.due), refused)
    return table


def _studies(frame: Frame) -> Table:
    table = _table("last studies", "accession", "images", "received", "state")
    for study in frame.studies:
        table.add_row(*_row(study, frame.at))
    return table


def _row(study: StudyLine, now: datetime) -> tuple[Text, ...]:
    return (
        Text(study.study_instance_uid),
        Text(study.accession_number),
        Text(str(study.images)),
        Text(f"{_age(now, study.received_at)} ago"),
        coloured(study.state),
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _age(now: datetime, since: datetime) -> str:
    seconds = max(0, int((now - since).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
