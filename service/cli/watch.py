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
from service.records.database import utc_now
from service.watch import Frame, StudyLine, Watcher

_EVERY_SECONDS: Final = 1.0
_KEYS_AT_ONCE: Final = 1024

Once = Annotated[bool, typer.Option("--once", help="Print one frame and end.")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(watch)


def watch(
    config: Config = None, data_dir: DataDir = None, once: Once = False, as_json: AsJSON = False
) -> None:
    """Show what the node does, anew each second, until q or Ctrl-C.

    Rates, queue, processes, destinations and webhooks, silent modalities, last studies.

    --json is one frame for a script; where there is no terminal, one frame is printed.

    Example: litegpt-node watch --once
    """
    settings = settings_of_process(config, data_dir=data_dir)
    records = open_records(settings)
    watcher = Watcher(records, settings)
    try:
        if as_json:
            typer.echo(json.dumps(watcher.look(utc_now()).as_json(), indent=2))
        elif once or not sys.stdout.isatty():
            Console().print(_screen(watcher.look(utc_now())))
        else:
            _watch(watcher)
    finally:
        records.close()


def _watch(watcher: Watcher) -> None:
    try:
        with _keys() as pressed_q, Live(screen=True, auto_refresh=False) as live:
            while True:
                live.update(_look_or_say_why(watcher), refresh=True)
                if pressed_q(_EVERY_SECONDS):
                    return
    except KeyboardInterrupt:
        return


def _look_or_say_why(watcher: Watcher) -> RenderableType:
    """A database that is away comes back: the screen waits for it."""
    try:
        return _screen(watcher.look(utc_now()))
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
    pieces = (
        (frame.processes, _processes),
        (frame.destinations, _destinations),
        (frame.webhooks, _webhooks),
        (frame.silent, _silent),
        (frame.studies, _studies),
    )
    for shown, piece in pieces:
        if shown:
            parts += [Text(), piece(frame)]
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


def _processes(frame: Frame) -> Table:
    table = _table("process", "host", "state", "heard", "model", "device")
    for one in frame.processes:
        state = f"{one.state} {one.in_hand}" if one.in_hand and not one.is_silent else one.state
        table.add_row(
            Text(f"{one.part} {one.pid or ''}"),
            Text(one.host),
            Text(state, "red" if one.is_silent else ""),
            Text(f"{_age(frame.at, one.beaten_at)} ago"),
            Text(one.model),
            Text(one.device),
        )
    return table


def _destinations(frame: Frame) -> Table:
    minutes = frame.rates.window_seconds // 60
    table = _table("delivered to", "state", f"delivered in {minutes} min", "due", "refused")
    for one in frame.destinations:
        reach = _reach(frame, one.state, one.down_since)
        table.add_row(Text(one.destination), reach, str(one.delivered), str(one.due), _refused(one.refused))
    return table


def _webhooks(frame: Frame) -> Table:
    table = _table("webhook", "state", "due", "refused")
    for one in frame.webhooks:
        reach = _reach(frame, one.state, one.down_since)
        table.add_row(Text(one.webhook), reach, str(one.due), _refused(one.refused))
    return table


def _reach(frame: Frame, state: str, down_since: datetime | None) -> Text:
    return Text(f"down for {_age(frame.at, down_since)}", "red") if down_since else Text(state)


def _refused(number: int) -> Text:
    return Text(str(number), "red" if number else "")


def _silent(frame: Frame) -> Table:
    table = _table("silent modality", "for", "usual at this time of the week")
    for one in frame.silent:
        usual = _words(int(one.usual_seconds))
        table.add_row(Text(one.calling_ae_title), Text(_age(frame.at, one.last), "red"), f"up to {usual}")
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
    return _words(max(0, int((now - since).total_seconds())))


def _words(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
