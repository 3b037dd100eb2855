"""``litegpt-node show-report``: what a Structured Report says, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import RadiographError
from service.errors import CannotUnderstand
from worker.reports.comparison import Comparison, compare
from worker.reports.document import Report, read_report
from worker.reports.group import Group
from worker.reports.regions import Region

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
    console.print(Text(report.title or "(no title)", style="bold"), soft_wrap=True)
    for name, value in (
        ("class", report.sop_class),
        ("study", report.study_instance_uid),
        ("report", report.sop_instance_uid),
        ("written", report.written),
        ("state", ", ".join(report.flags)),
        *(("image", f"{number} {uid}") for number, uid in enumerate(report.images, start=1)),
    ):
        if value:
            console.print(Text(f"{name:<8}{value}"), soft_wrap=True)
    for number, group in enumerate(report.groups, start=1):
        console.print(Text(f"\n{number:<3} {group.name}", style="bold"), soft_wrap=True)
        for name, value in _said(group, report.images):
            if value:
                console.print(Text(f"    {name:<11}{value}"), soft_wrap=True)
    if report.groups and report.statements:
        console.print()
    for statement in report.statements:
        console.print(Text(statement), soft_wrap=True)


def _said(group: Group, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What a group says, a line each, by what it is."""
    for region in group.regions:
        yield "where", _where(region, images)
    yield from (("where", f"{place} (not drawn)") for place in group.not_drawn)
    if not group.regions and not group.not_drawn:
        numbers = [str(images.index(uid) + 1) for uid in group.images]
        yield "where", f"image {', '.join(numbers)}" if numbers else "(not said)"
    yield "certainty", _percent(group)
    yield from (("measured", f"{name} {value} {unit}".rstrip()) for name, value, unit in group.measurements)
    yield from (("comment", comment) for comment in group.comments)
    yield from (("says", evaluation) for evaluation in group.evaluations)
    yield "algorithm", group.algorithm
    yield "tracked as", f"{group.tracking_identifier} {group.tracking_uid}".strip()


def _print_comparison(console: Console, comparison: Comparison) -> None:
    for group in comparison.new:
        console.print(Text(f"new    {group.name} {_percent(group)}".rstrip()), soft_wrap=True)
    for group in comparison.gone:
        console.print(Text(f"gone   {group.name} {_percent(group)}".rstrip()), soft_wrap=True)
    for before, after, overlap in comparison.kept:
        where = f"(overlap {overlap:.2f})" if before.regions and after.regions else ""
        words = ("kept  ", after.name, where, ", ".join(_changes(before, after)))
        console.print(Text(" ".join(part for part in words if part)), soft_wrap=True)
    if not (comparison.new or comparison.gone or comparison.kept):
        console.print("Neither report has a finding.")


def _changes(before: Group, after: Group) -> Iterator[str]:
    if _percent(before) != _percent(after):
        yield f"{_percent(before) or '(no certainty)'} to {_percent(after) or '(no certainty)'}"
    known = {(name, unit): value for name, value, unit in before.measurements}
    for name, value, unit in after.measurements:
        if known.get((name, unit), value) != value:
            yield f"{name} {known[name, unit]} to {value} {unit}".rstrip()


def _where(region: Region, images: Sequence[str]) -> str:
    left, top, right, bottom = (f"{side:g}" for side in region.bounds)
    corners = f"{left}, {top}, {right}, {bottom} (left, top, right, bottom)"
    place = f"{left}, {top}" if region.kind == "POINT" else corners
    image = f" in image {images.index(region.image) + 1}" if region.image and len(images) > 1 else ""
    return f"{region.kind} {place}{image}"


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
