"""The command ``compare``: what two models say of the same images, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.choosing import StudyDates, study_dates
from service.cli.options import (
    AsJSON,
    Config,
    DataDir,
    Since,
    Until,
    begin_of,
    end_of,
    open_records,
    settings_of_process,
)
from service.cli.progress import studies_counted
from service.cli.studies import DEMONSTRATION
from service.cli.who import written_down
from service.comparing import readings
from service.comparing.agreement import Agreement
from service.comparing.differing import MostDiffering
from service.comparing.readings import ReadingModel
from service.errors import SettingsError
from service.records.database import Records
from service.records.selection import Selection

Models = Annotated[
    list[str],
    typer.Option(
        "--model", metavar="MODEL", help='Given twice: "ID VERSION", or a version that no other model has.'
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="How many studies that differ are listed.")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(compare)


def compare(
    model: Models,
    since: Since = None,
    until: Until = None,
    study_date: StudyDates = "",
    limit: Limit = 20,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Compare two models on the images that both have read: A is named first, B second.

    For each label: how many images it is reported in by whom, Cohen's kappa of that, the mean overlap (IoU)
    of the boxes where both report it, and how much higher B's score is where both have one, reported or not.
    Then the studies that they differ on most. Exit code 1 where there is no image that both have read.

    Example: litegpt-node compare --model 0.3.0 --model "litegpt-phantom 0.4.0" --since 2024-01-01
    """
    settings = settings_of_process(config, data_dir=data_dir)
    first, last = study_dates(study_date)
    days = begin_of(since, settings.zone), end_of(until, settings.zone)
    selection = Selection(since=days[0], until=days[1], study_dates_from=first, study_dates_to=last)
    records = open_records(settings)
    try:
        comparison = _Comparison(*_two(records, model), MostDiffering(limit))
        asked = {"studies": selection.as_json(), "a": str(comparison.a), "b": str(comparison.b)}
        with written_down(records, "compare", asked) as outcome:
            comparison.run(records, selection)
            outcome.update(studies=comparison.studies, images=comparison.agreement.images)
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), indent=2))
    else:
        comparison.say()
    raise typer.Exit(0 if comparison.agreement.images else 1)


@dataclass(slots=True)
class _Comparison:
    """The two models, and the sums over what both have read."""

    a: ReadingModel
    b: ReadingModel
    differing: MostDiffering
    agreement: Agreement = field(default_factory=Agreement)
    studies: int = 0

    def run(self, records: Records, selection: Selection) -> None:
        """Goes through the studies that are meant."""
        with studies_counted("compare") as count:
            for looked_at, page in readings.pages(records, selection, self.a, self.b):
                for study in page:
                    self.studies += 1
                    self.differing.add(study)
                    for of_image in study.images:
                        self.agreement.add(*of_image)
                count(looked_at)

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {
            "a": asdict(self.a),
            "b": asdict(self.b),
            "studies": self.studies,
            "images": self.agreement.images,
            "labels": list(self._labels()),
            "studies_that_differ": [one.as_json() for one in self.differing.in_order()],
        }

    def say(self) -> None:
        """For people."""
        console = Console(highlight=False)
        console.print(Text(f"A is {self.a}, B is {self.b}"))
        if not self.agreement.images:
            console.print("no image has been read by both")
            return
        console.print(
            f"{self.agreement.images:,} images of {self.studies:,} studies have been read by both\n"
        )
        for table in (self._labels_table(), self._studies_table()):
            if table.row_count:
                console.print(table)
                console.print()
        if self.a.demonstration or self.b.demonstration:
            console.print(DEMONSTRATION, style="yellow")

    def _labels(self) -> Iterator[dict[str, Any]]:
        images = self.agreement.images
        for label in self.agreement.labels():
            sums = self.agreement.by_label[label]
            yield {
                "label": label,
                "reported_a": sums.both + sums.only_a,
                "reported_b": sums.both + sums.only_b,
                "both": sums.both,
                "only_a": sums.only_a,
                "only_b": sums.only_b,
                "neither": images - sums.both - sums.only_a - sums.only_b,
                "kappa": sums.kappa(images),
                "mean_iou": sums.mean_iou,
                "box_pairs": sums.box_pairs,
                "mean_score_difference": sums.mean_score_difference,
                "scored_by_both": sums.scored,
            }

    def _labels_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("images with", no_wrap=True)
        headings = ("A", "B", "both", "only A", "only B", "neither", "kappa", "IoU", "score")
        for heading in headings:
            table.add_column(heading, justify="right")
        counts = ("reported_a", "reported_b", "both", "only_a", "only_b", "neither")
        for row in self._labels():
            numbers = [f"{row[name]:,}" for name in counts]
            means = [
                _number(row["kappa"]),
                _number(row["mean_iou"]),
                _number(row["mean_score_difference"], "+"),
            ]
            table.add_row(Text(row["label"]), *numbers, *means)
        return table

    def _studies_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("studies that differ", "accession", "labels", "only A", "only B", "scores"):
            table.add_column(heading, overflow="fold")
        for one in self.differing.in_order():
            labels = Text(", ".join(one.only_a)), Text(", ".join(one.only_b))
            names = Text(one.study_instance_uid), Text(one.accession_number)
            table.add_row(*names, str(one.labels), *labels, _number(one.score_difference))
        return table


def _two(records: Records, names: list[str]) -> tuple[ReadingModel, ReadingModel]:
    if len(names) != 2:
        raise SettingsError("which two models? name each by --model")
    a, b = readings.models_named(records, names)
    if a == b:
        raise SettingsError(f"both are {a}: name two models")
    return a, b


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"
