"""Collections of phantoms as DICOM files with their truth beside them (``truth.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.complete_file import complete_file
from training.errors import TrainingError
from training.phantom.choice import DRAWN_LABELS
from training.phantom.dicom import FORMS, DicomForm, Label, in_form, write_phantom
from training.phantom.radiograph import Phantom, phantom, phantoms

TRUTH_NAME: Final = "truth.json"

_SAMPLE_SEED: Final = 8_128
"""Of the phantoms that ship with the package; nothing is ever trained or measured on it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the shipped phantoms: what is drawn, and whose it is said to be."""

    name: str
    patient: str
    image: int
    age_years: int
    labels: tuple[str, ...]
    hyperinflated: bool = False


SAMPLES: Final = (
    Sample("one", "One", 1, 34, ()),
    Sample("two", "Two", 1, 71, ("Cardiomegaly", "Pleural effusion")),
    Sample("three", "Three", 1, 58, ("Nodule/Mass",)),
    Sample("four-a", "Four", 1, 26, ("Pneumothorax",)),
    Sample("four-b", "Four", 2, 26, ("Pneumothorax", "Rib fracture")),
    Sample("five", "Five", 1, 63, ("Aortic enlargement", "Consolidation")),
    Sample("six", "Six", 1, 45, ()),
    Sample("seven", "Seven", 1, 52, ("Lung cavity", "Atelectasis"), hyperinflated=True),
)
"""Eight images of seven studies: the two of patient Four share one."""


@dataclass(frozen=True, slots=True)
class Item:
    """One phantom about to be written."""

    file_name: str
    phantom: Phantom
    form: DicomForm
    label: Label


def samples() -> Iterator[Item]:
    """The phantoms that ship with the package."""
    for number, (sample, form) in enumerate(zip(SAMPLES, FORMS, strict=True)):
        rng = np.random.default_rng((_SAMPLE_SEED, number))
        drawn = phantom(rng, labels=sample.labels, hyperinflated=sample.hyperinflated)
        label = Label(sample.patient, f"sample {sample.patient}", sample.image, sample.age_years)
        yield Item(f"phantom-{sample.name}.dcm", drawn, form, label)


def fresh_phantoms(images: int, seed: int, *, drawn_labels: Sequence[str] = DRAWN_LABELS) -> Iterator[Item]:
    """Phantoms at random, one study each, in all forms in turn."""
    for number, drawn in zip(range(1, images + 1), phantoms(seed, drawn_labels=drawn_labels), strict=False):
        label = Label(f"{seed}-{number}", f"seed {seed} number {number}", 1, 20 + (number * 7) % 60)
        yield Item(f"phantom-{seed}-{number:05d}.dcm", drawn, FORMS[number % len(FORMS)], label)


def write_collection(items: Iterable[Item], folder: Path) -> Iterator[Path]:
    """Writes each item and, after the last, the truth of all of them; yields each file as it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = []
    for item in items:
        path = folder / item.file_name
        write_phantom(item.phantom, item.form, item.label, path)
        truth.append(truth_of(item))
        yield path
    write_truth(truth, folder)


def refuse_another_set(folder: Path) -> None:
    """Two sets in one folder would read as one, and the truth of the second would replace that of the first.

    Raises:
        TrainingError: If there is something in the folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise TrainingError(f"{folder} is not empty: choose another --out, or empty it")


def write_truth(truth: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes what is drawn in all of a folder's images, at once or not at all."""
    text = json.dumps(truth, indent=1, ensure_ascii=False) + "\n"
    with complete_file(folder / TRUTH_NAME) as path:
        path.write_text(text, encoding="utf-8")


def truth_of(item: Item) -> dict[str, Any]:
    """What is drawn in an image: boxes in pixels of its matrix."""
    boxes = [
        (finding.label, in_form(finding.box, item.phantom, item.form)) for finding in item.phantom.findings
    ]
    return {
        "file": item.file_name,
        "study": item.label.study,
        "rows": item.form.rows,
        "columns": item.form.columns,
        "findings": [
            {"label": label, "box": [round(side, 2) for side in (box.x_min, box.y_min, box.x_max, box.y_max)]}
            for label, box in boxes
        ],
        "diagnoses": list(item.phantom.diagnoses),
    }
