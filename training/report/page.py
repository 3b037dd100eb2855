"""The page: what is measured and drawn of each folder, put into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from litegpt.vocabulary import LOCAL_LABELS
from training.errors import TrainingError
from training.evaluation.froc import Froc
from training.evaluation.journal import RUN_NAME, Examined, Run, read_readings, read_run
from training.evaluation.measured_run import JSON_NAME, MeasuredRun, judged_labels
from training.evaluation.measures import no_places, placed_labels
from training.evaluation.scorecard import Sheet
from training.evaluation.statements import with_comparable_boxes
from training.report import curves
from training.report.confusion import confusion
from training.report.contact_sheet import Card, card, contact_sheet
from training.report.precision_recall import box_curves, label_curves, mean_curve
from training.report.reliability import box_reliability, label_reliability
from training.report.training_log import TrainingLog, read_training_log, training_log

_TEMPLATE: Final = "template.html.j2"


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its caption, and the heading over it."""

    heading: str
    figure: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class SmallPlot:
    """One of many small figures: a label's."""

    label: str
    figure: Markup
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardGroup:
    """Images of the contact sheet that are shown together."""

    title: str
    meaning: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class EvaluationPart:
    """What a page shows of an evaluation.

    Attributes:
        key: Ids of the part begin with it.
        run: Which model read what.
        images: How many.
        failed: How many of them could not be read.
        headline: Name, value and interval of the most telling figures.
        sheets: The tables.
        sheet: The contact sheet.
        plots: Mean curves, FROC, confusion, calibration, as far as they can be drawn.
        small: A figure a label.
    """

    key: str
    run: Run
    images: int
    failed: int
    headline: tuple[tuple[str, str, str], ...]
    sheets: tuple[Sheet, ...]
    sheet: tuple[CardGroup, ...]
    plots: tuple[Plot, ...]
    small: tuple[SmallPlot, ...]


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """What a page shows of a training run."""

    key: str
    name: str
    rows: int
    losses: Markup | None
    others: tuple[Plot, ...]


def report_page(folders: Sequence[Path]) -> str:
    """The page of some folders, in their order; a folder may hold an evaluation, a training run, or both.

    Raises:
        TrainingError: If a folder holds neither, or what it holds cannot be read.
    """
    evaluations, trainings = [], []
    for number, folder in enumerate(folders, start=1):
        log = training_log(folder)
        if (folder / RUN_NAME).is_file():
            evaluations.append(evaluation_part(folder, f"e{number}"))
        elif log is None:
            raise TrainingError(f"{folder} holds neither an evaluation ({RUN_NAME}) nor a training (log.csv)")
        if log is not None:
            trainings.append(training_part(read_training_log(log), f"t{number}"))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(evaluations=evaluations, trainings=trainings)


def training_part(log: TrainingLog, key: str) -> TrainingPart:
    """Draws a training run."""
    return TrainingPart(
        key=key,
        name=log.file.parent.name,
        rows=len(log.progress),
        losses=curves.losses(log, f"{key}-loss") if log.losses else None,
        others=tuple(
            Plot(
                column.replace("_", " ").capitalize(), curves.course(log, column, f"{key}-other-{number}"), ""
            )
            for number, column in enumerate(log.others)
        ),
    )


def evaluation_part(folder: Path, key: str) -> EvaluationPart:
    """Measures, if that was not done yet, and draws an evaluation."""
    run, examined = read_run(folder), read_readings(folder)
    if not examined:
        raise TrainingError(f"{folder} holds no reading yet")
    measured = (
        MeasuredRun.read(folder, run) if (folder / JSON_NAME).is_file() else MeasuredRun.of(run, examined)
    )
    labels = judged_labels(examined)
    local = placed_labels([one.case for one in examined], labels)
    placed = local if no_places([one.case for one in examined], labels) is None else []
    read = [one for one in examined if one.reading.failure is None]
    overview, small = _precision_recall(read, labels, placed, key)
    return EvaluationPart(
        key=key,
        run=run,
        images=len(examined),
        failed=len(examined) - len(read),
        headline=_headline(measured),
        sheets=tuple(measured.sheets()),
        sheet=tuple(
            CardGroup(group.title, group.meaning, tuple(card(one, folder) for one in group.images))
            for group in contact_sheet(examined)
        ),
        plots=(*overview, *_froc(examined, measured, placed, key), *_others(read, labels, placed, key)),
        small=small,
    )


def _headline(measured: MeasuredRun) -> tuple[tuple[str, str, str], ...]:
    """The figures to look at first, as far as they were measured."""
    told = []
    for name, path in (
        ("F1 of findings, micro", ("classification", "exact", "local", "micro", "f1")),
        ("F1 of diagnoses, micro", ("classification", "exact", "diagnoses", "micro", "f1")),
        ("AUROC, mean", ("auroc", "combined")),
        ("Accuracy@0.5, published", ("accuracy", "published", "0.5")),
        ("mAP@0.4", ("map", "0.4")),
        ("FROC sensitivity, mean", ("froc", "mean")),
    ):
        one = measured.measured.estimates.get(path)
        if one is not None and one.value is not None:
            interval = f"{one.low:.3f} to {one.high:.3f}" if one.low is not None else ""
            told.append((name, f"{one.value:.3f}", interval))
    return tuple(told)


def _precision_recall(
    read: Sequence[Examined], labels: Sequence[str], placed: Sequence[str], key: str
) -> tuple[list[Plot], tuple[SmallPlot, ...]]:
    of_labels = label_curves(read, labels)
    of_boxes = box_curves(read, placed) if placed else {}
    means = {name: mean_curve(found) for name, found in (("labels", of_labels), ("boxes", of_boxes)) if found}
    if not means:
        return [], ()
    caption = (
        "Mean over the labels, and the mean average precision. Labels: does the image have it; boxes: is it "
        "there, IoU of at least 0.5."
    )
    plot = Plot("Precision over recall", curves.mean_precision_recall(means, f"{key}-pr"), caption)
    small = []
    for number, label in enumerate(label for label in labels if label in of_labels or label in of_boxes):
        both = (of_labels.get(label), of_boxes.get(label))
        figure = curves.precision_recall(label, both, f"{key}-pr-{number}")
        values = tuple("" if curve is None else f"{curve.average:.2f}" for curve in both)
        small.append(SmallPlot(label, figure, values))
    return [plot], tuple(small)


def _froc(examined: Sequence[Examined], measured: MeasuredRun, placed: Sequence[str], key: str) -> list[Plot]:
    if not placed:
        return []
    readings = [with_comparable_boxes(one.reading, one.case) for one in examined]
    false, found = Froc(placed, [one.case.truth for one in examined], readings).curve()
    marks = {path[1]: one.value for path, one in measured.measured.estimates.items() if path[0] == "froc"}
    caption = (
        "Of the true boxes, the part found (IoU above 0.4) at so many false ones per image; dots at 1/8 to 8 "
        "of them. Where the curve ends, the model had no further box."
    )
    return [Plot("FROC", curves.froc(false, found, marks, f"{key}-froc"), caption)]


def _others(read: Sequence[Examined], labels: Sequence[str], placed: Sequence[str], key: str) -> list[Plot]:
    """Calibration and confusion."""
    plots = []
    for heading, name, found in (
        ("Calibration of labels", "labels", label_reliability(read, labels)),
        ("Calibration of boxes", "boxes", box_reliability(read, placed)),
    ):
        if found is not None:
            caption = (
                f"Ten bins of equal count, {found.examples:,} scores; on the dashed line a score is how "
                f"often it is right. Expected calibration error {found.error:.3f}."
            )
            figure = curves.reliability(found, f"{key}-reliability-{name}", heading)
            plots.append(Plot(heading, figure, caption))
    counted = confusion(read, [label for label in placed if label in LOCAL_LABELS])
    if counted.counts.any():
        caption = (
            "Boxes paired by place alone, IoU above 0.5: a true one in its row, what was said there in its "
            "column. Missed: nothing was said there. Invented: nothing is there. The darker, the larger its "
            "part of the row."
        )
        plots.append(Plot("Confusion", curves.confusion_matrix(counted, f"{key}-confusion"), caption))
    return plots
