"""The datasets that can be read, by the names they have on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.datasets import json_lines, mimic_cxr, nih, phantom_collection, rsna, vinbigdata, vindr_cxr
from training.datasets.example import Example, Split
from training.datasets.label_tables import MIMIC, NIH, OURS, RSNA, VINBIGDATA, LabelTable
from training.datasets.problems import Kind, Tally

Reader = Callable[[Path, Tally], Iterator[Example]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One kind of dataset.

    Attributes:
        title: What it is called in print.
        read: Its reader: path and tally to examples.
        labels: Its labels, and what they are in our vocabulary.
    """

    title: str
    read: Reader
    labels: LabelTable


DATASETS: Final[Mapping[str, Dataset]] = {
    vindr_cxr.NAME: Dataset("VinDr-CXR (PhysioNet)", vindr_cxr.read, OURS),
    vinbigdata.NAME: Dataset("VinBigData (Kaggle)", vinbigdata.read, VINBIGDATA),
    nih.NAME: Dataset("NIH ChestX-ray14", nih.read, NIH),
    rsna.NAME: Dataset("RSNA Pneumonia", rsna.read, RSNA),
    mimic_cxr.NAME: Dataset("MIMIC-CXR", mimic_cxr.read, MIMIC),
    json_lines.NAME: Dataset("JSON lines", json_lines.read, OURS),
    phantom_collection.NAME: Dataset("Phantoms", phantom_collection.read, OURS),
}


def read_dataset(name: str, path: Path, tally: Tally | None = None) -> Iterator[Example]:
    """Reads a dataset, image by image; no image is opened, and no patient comes in two splits.

    Args:
        name: One of ``DATASETS``.
        path: Where it lies; the reader's module says what is expected there.
        tally: Takes rows and problems.

    Raises:
        DatasetError: While reading, if the dataset cannot be read.
    """
    tally = tally or Tally()
    splits: dict[str, Split] = {}
    for example in DATASETS[name].read(path, tally):
        first = splits.setdefault(example.patient, example.split) if example.split else None
        if first != example.split:
            words = (
                f"{example.image_id} of {example.patient} is in {example.split}, an earlier image in {first}"
            )
            tally.report(Kind.TWO_SPLITS, example.place, "split", words)
            continue
        yield example
