"""Which label of ours each dataset's label is, or why it has none: tables to read, and to argue with.

A label is left out rather than stretched: what a model says of it then counts neither for nor against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from litegpt.vocabulary import LABELS, NO_FINDING
from training.datasets.problems import Kind, Place, Tally


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A label that the vocabulary has no word for, and why."""

    reason: str


class LabelTable:
    """A dataset's labels in its own spelling, each with ours.

    Args:
        entries: By the dataset's spelling: a label of the vocabulary, or why there is none.
    """

    def __init__(self, entries: Mapping[str, str | LeftOut]) -> None:
        self.entries = entries
        self._spellings = {_plain(name): name for name in entries}
        self.judged = frozenset(label for label in entries.values() if isinstance(label, str))
        """The labels of ours that the dataset speaks of."""

    def ours(self, name: str, place: Place, column: str, tally: Tally) -> str | None:
        """Our label for a dataset's; None, reported, where there is none."""
        found = self.entries.get(name)
        if found is None:
            return self._respelled(name, place, column, tally)
        if isinstance(found, LeftOut):
            tally.report(Kind.UNMAPPED_CLASS, place, column, f"{name}: {found.reason}")
            return None
        return found

    def is_known(self, name: str) -> bool:
        """Whether the table has the label, in this spelling or one that differs in case or blanks."""
        return _plain(name) in self._spellings

    def _respelled(self, name: str, place: Place, column: str, tally: Tally) -> str | None:
        spelling = self._spellings.get(_plain(name))
        if spelling is None:
            tally.report(Kind.UNKNOWN_CLASS, place, column, f"no label of this dataset: {name!r}")
            return None
        tally.report(Kind.CLASS_SPELLING, place, column, f"{name!r} for {spelling!r}")
        return self.ours(spelling, place, column, tally)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


OURS: Final = LabelTable({**{label: label for label in LABELS}, "Other diseases": "Other disease"})
"""Our own spelling; a hospital's JSON lines and the phantoms. Also that of VinDr-CXR's four files, of which
the train file writes ``Other diseases`` and the test file ``Other disease``."""

VINBIGDATA_CLASSES: Final = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    NO_FINDING,
)
"""VinDr-CXR's 14 most frequent findings and "No finding", in the order of their ``class_id``, 0 to 14."""

VINBIGDATA: Final = LabelTable({label: label for label in VINBIGDATA_CLASSES})

NIH: Final = LabelTable(
    {
        "Atelectasis": "Atelectasis",
        "Cardiomegaly": "Cardiomegaly",
        "Consolidation": "Consolidation",
        "Edema": "Edema",
        "Effusion": "Pleural effusion",
        "Emphysema": "Emphysema",
        "Fibrosis": "Pulmonary fibrosis",
        "Hernia": LeftOut("the vocabulary has no hernia, and not every other lesion is one"),
        # Data_Entry_2017.csv and BBox_List_2017.csv differ in this one name
        "Infiltration": "Infiltration",
        "Infiltrate": "Infiltration",
        "Mass": "Nodule/Mass",
        "Nodule": "Nodule/Mass",
        "Pleural_Thickening": "Pleural thickening",
        "Pneumonia": "Pneumonia",
        "Pneumothorax": "Pneumothorax",
        "No Finding": NO_FINDING,
    }
)

RSNA: Final = LabelTable(
    {
        "Lung Opacity": "Lung Opacity",
        "Normal": NO_FINDING,
        "No Lung Opacity / Not Normal": LeftOut("abnormal, but nobody says how"),
    }
)
"""The classes of ``stage_2_detailed_class_info.csv``. The boxes are of lung opacities that suggest pneumonia;
the diagnosis was not asked for."""

MIMIC: Final = LabelTable(
    {
        "Atelectasis": "Atelectasis",
        "Cardiomegaly": "Cardiomegaly",
        "Consolidation": "Consolidation",
        "Edema": "Edema",
        "Enlarged Cardiomediastinum": LeftOut(
            "of heart or mediastinum, said of any contour: no label of ours"
        ),
        "Fracture": LeftOut("of any bone; ours are of rib and clavicle"),
        # The labeler's phrases: mass, nodule, nodular opacity, lump, cavitary lesion, carcinoma, tumor
        "Lung Lesion": "Nodule/Mass",
        "Lung Opacity": "Lung Opacity",
        "Pleural Effusion": "Pleural effusion",
        # The labeler's phrases: pleural thickening, fibrosis, fibrothorax, pleural and parenchymal scars
        "Pleural Other": LeftOut("thickening, scars and fibrosis in one"),
        "Pneumonia": "Pneumonia",
        "Pneumothorax": "Pneumothorax",
        "Support Devices": LeftOut("no finding"),
        "No Finding": NO_FINDING,
    }
)
"""The columns of ``mimic-cxr-2.0.0-chexpert.csv``. What each stands for follows the labeler's phrases
(stanfordmlgroup/chexpert-labeler, phrases/mention)."""
