"""``litegpt-node show-report``: what a Structured Report says, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from litegpt.errors import RadiographError
from service.errors import CannotUnderstand
from worker.reports.comparison import Comparison, compare
from worker.reports.document import Group, Report, read_report

File = Annotated[Path, typer.Argument(help="A Structured Report.", exists=True, dir_okay=False)]


def show_report(
    file: File,
    image: Annotated[
        Path | None,
        typer.Option(help="The image that it speaks of, to draw over.", exists=True, dir_okay=False),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Where the drawing goes.", dir_okay=False)] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="An earlier report, to tell what is new and what is gone.", exists=True),
    ] = None,
) -> None:
    """Print what a Structured Report with regions says (TID 1500), ours or another's; draw it; compare two.

    Example: litegpt-node show-report report.dcm

    Example: litegpt-node show-report report.dcm --image chest.dcm --png findings.png

    Example: litegpt-node show-report new.dcm --against old.dcm
    """
    if (image is None) != (png is None):
        raise typer.BadParameter("--image says what to draw over and --png where it goes: give both")
    console = Console(highlight=False)
    report = read_report(file)
    if against is not None:
        _print_comparison(console, compare(read_report(against), report))
    else:
        _print(console, report)
    if image is not None and png is not None:
        _draw(image, report, png)
        console.print(Text(f"drawn in {png}"))


def _print(console: Console, report: Report) -> None:
    console.print(Text(report.title or "(no title)", style="bold"))
    for name, value in (
        ("class", report.sop_class),
        ("study", report.study_instance_uid),
        ("report", report.sop_instance_uid),
        ("written", report.written),
        ("state", ", ".join(report.flags)),
    ):
        if value:
            console.print(Text(f"{name:<8}{value}"), soft_wrap=True)
    if report.groups:
        console.print(_table(report.groups))
    for statement in report.statements:
        console.print(Text(statement), soft_wrap=True)


def _table(groups: Sequence[Group]) -> Table:
    table = Table("#", "finding", "where (left, top, right, bottom)", "certainty", "comment", "algorithm")
    for number, group in enumerate(groups, start=1):
        where = [", ".join(f"{side:g}" for side in region.bounds) for region in group.regions]
        comments = [*group.comments, *(" ".join(measured) for measured in group.measurements)]
        cells = (str(number), group.name, "\n".join(where), _percent(group), "\n".join(comments))
        table.add_row(*(Text(cell) for cell in (*cells, group.algorithm)))
    return table


def _print_comparison(console: Console, comparison: Comparison) -> None:
    for group in comparison.new:
        console.print(Text(f"new    {group.name} {_percent(group)}".rstrip()))
    for group in comparison.gone:
        console.print(Text(f"gone   {group.name} {_percent(group)}".rstrip()))
    for before, after, likeness in comparison.kept:
        change = f"{_percent(before)} to {_percent(after)}" if _percent(before) != _percent(after) else ""
        console.print(Text(f"kept   {after.name} (overlap {likeness:.2f}) {change}".rstrip()))
    if not (comparison.new or comparison.gone or comparison.kept):
        console.print("Neither report has a finding.")


def _percent(group: Group) -> str:
    return "" if group.certainty is None else f"{group.certainty:g} %"


def _draw(image: Path, report: Report, png: Path) -> None:
    # Imported here: decoders take long to load
    from pydicom import dcmread

    from litegpt.radiograph import read_radiograph
    from worker.reports.drawing import draw_regions

    try:
        radiograph = read_radiograph(image)
    except RadiographError as error:
        raise CannotUnderstand(f"{image}: {error}") from None
    header = dcmread(image, stop_before_pixels=True)
    draw_regions(radiograph, str(header.SOPInstanceUID), report.groups).save(png)
