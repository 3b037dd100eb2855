"""The images of a dataset that a model is measured on, each with what its readers agree on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from litegpt.errors import RadiographError
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import LABELS, LOCAL_LABELS
from training.agreement import AGREED, BoxRule, LabelRule, agreed
from training.datasets.catalogue import read_dataset
from training.datasets.example import Example, Split
from training.datasets.pictures import read_image
from training.datasets.problems import Tally
from training.errors import TrainingError
from training.evaluation.statements import Statement
from training.evaluation.subject import Subject
from training.splits import split_of

SplitChoice = Split | Literal["all"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images of which dataset, and how several readers become one truth.

    Attributes:
        dataset: One of ``training.datasets.catalogue.DATASETS``.
        path: Where it lies.
        split: Which of its images; ``all`` for every one.
        boxes: Rule of agreement for boxes.
        labels: Rule of agreement for labels of the whole image.
        limit: At most so many, chosen by a hash of their names: a larger limit keeps those of a smaller one.
    """

    dataset: str
    path: Path
    split: SplitChoice = "test"
    boxes: BoxRule = "wbf"
    labels: LabelRule = "union"
    limit: int | None = None


def dataset_subjects(selection: Selection, tally: Tally) -> list[Subject]:
    """The chosen images.

    Images of which nothing is known are not among them.

    Raises:
        DatasetError: If the dataset cannot be read.
        TrainingError: If no image is left, or none has a file.
    """
    examples = list(_chosen(selection, tally))
    if not any(example.image for example in examples):
        raise TrainingError(
            f"{selection.path}: none of the {len(examples)} images is there (docs/datasets.md says where)"
        )
    if selection.limit is not None:
        examples = sorted(examples, key=lambda example: _hash(example.image_id))[: selection.limit]
    return [subject_of(example, selection.boxes, selection.labels) for example in examples]


def subject_of(example: Example, boxes: BoxRule, labels: LabelRule) -> Subject:
    """An example as an image to read, its truth by these rules of agreement."""
    one = agreed(example, boxes, labels)
    said = one.labels[AGREED]
    placed = tuple((finding.label, finding.box) for finding in one.findings)
    present = said.intersection(LOCAL_LABELS) - {label for label, _ in placed}
    return Subject(
        image_id=example.image_id,
        truth=Statement(placed, said.difference(LOCAL_LABELS), present),
        judged=example.judged,
        load=partial(_load, example),
        file=example.image,
        size=example.size,
    )


def is_known(example: Example) -> bool:
    """Whether anything is known of an image.

    Where every label was looked for, one of them has to be true: who gives none, not even "No finding", has
    said nothing.
    """
    return bool(example.said or (example.judged and not example.judged.issuperset(LABELS)))


def _chosen(selection: Selection, tally: Tally) -> Iterator[Example]:
    there: Counter[str] = Counter()
    for example in read_dataset(selection.dataset, selection.path, tally):
        split = split_of(example)
        there[split] += is_known(example)
        if is_known(example) and selection.split in (split, "all"):
            yield example
    if not there[selection.split] and (selection.split != "all" or not there.total()):
        counts = ", ".join(f"{split} {images:,}" for split, images in there.most_common() if images)
        has = f"has images in {counts}; choose one with --split" if counts else "has no image"
        raise TrainingError(f"{selection.path}: no image to measure in {selection.split}: it {has}")


def _load(example: Example) -> Radiograph:
    if example.image is None:
        raise RadiographError("its file is not there")
    radiograph = read_image(example.image)
    size = (radiograph.columns, radiograph.rows)
    if example.size not in (None, size):
        stated = f"{example.size.columns} × {example.size.rows}" if example.size else ""
        raise RadiographError(f"{size[0]} × {size[1]} pixels, but its boxes are of {stated}")
    return radiograph


def _hash(image_id: str) -> str:
    return hashlib.sha256(image_id.encode()).hexdigest()
