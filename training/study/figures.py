"""What a model reaches on the images that a study measures on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from litegpt.engine import Engine
from training.datasets.catalogue import DATASETS
from training.datasets.problems import Tally
from training.errors import TrainingError
from training.evaluation.dataset_subjects import Selection, dataset_subjects
from training.evaluation.examination import Examination
from training.evaluation.journal import Journal, Run, run_of
from training.evaluation.measured_run import judged_labels
from training.evaluation.measures import evaluate
from training.evaluation.phantoms import phantom_subjects
from training.evaluation.subject import Subject
from training.phantom.choice import DRAWN_LABELS
from training.study.outcome import FIGURES
from training.study.plan import TestImages


def require_there(images: TestImages) -> None:
    """Before hours are spent on models that could not be measured.

    Raises:
        TrainingError: If the dataset to measure on is not on this machine.
    """
    if images.data is not None and not images.data.exists():
        raise TrainingError(f"examination: {images.data} is not there")


def figures_of(
    engine: Engine, model: Path, images: TestImages, folder: Path, stop: Callable[[], bool]
) -> dict[str, float | None] | None:
    """Has a model read the images, and measures it.

    Args:
        engine: The model, as it is to be measured.
        model: Its folder.
        images: Which ones.
        folder: Gets the readings (``training.evaluation.journal``); those that are there are not read anew.
        stop: Asked after each image whether to stop.

    Returns:
        ``FIGURES`` by name, None where one is not defined; None instead of all if it was stopped.
    """
    subjects, run = _subjects(images), _run(model, images)
    examined = []
    with Journal(folder, run) as journal:
        for one in Examination(engine, journal).of(subjects):
            examined.append(one)
            if stop():
                return None
    examined.sort(key=lambda one: one.image_id)
    cases, readings = [one.case for one in examined], [one.reading for one in examined]
    measured = evaluate(cases, readings, labels=judged_labels(examined))
    return {name: measured.value(*path) for name, path in FIGURES.items()}


def _subjects(images: TestImages) -> Iterable[Subject]:
    if images.dataset is None or images.data is None:
        drawn = images.labels or DRAWN_LABELS
        return phantom_subjects(images.phantoms, images.seed, drawn_labels=drawn)
    chosen = Selection(
        images.dataset, images.data, images.split, images.boxes, images.labels_by, images.images
    )
    return dataset_subjects(chosen, Tally())


def _run(model: Path, images: TestImages) -> Run:
    if images.dataset is None:
        some = f", of {', '.join(images.labels)}" if images.labels else ""
        return run_of(model, "fresh phantoms", f"seed {images.seed}", f"as drawn{some}")
    truth = f"boxes {images.boxes}, labels by {images.labels_by}"
    return run_of(model, DATASETS[images.dataset].title, images.split, truth)
