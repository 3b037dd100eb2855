"""Which labels were named: precision, recall and F1, each label's and on average.

Counted here and not by scikit-learn, to which the tests hold it: the bootstrap asks for all of it a thousand
times, and these few sums are much faster. As in scikit-learn's report with ``zero_division=0``, 0/0 counts
as 0: a label that is neither true nor said pulls a macro average down, and so does an image without any label
the average over samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np
import numpy.typing as npt

from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from training.evaluation.bootstrap import Figures, Images, Path, Ratios, Values

FINDING: Final = "Finding"
"""The published code's own label of an image that is not ``No finding``."""

METRICS: Final = ("precision", "recall", "f1")
AVERAGES: Final = ("micro", "macro", "weighted", "samples")

Table = npt.NDArray[np.bool_]
"""(images, labels), whether the image has the label."""


def table(named: Iterable[AbstractSet[str]], labels: Sequence[str]) -> Table:
    """Sets of labels, one an image, as rows of a table."""
    rows = [[label in names for label in labels] for names in named]
    return np.array(rows, dtype=np.bool_).reshape(-1, len(labels))


def with_finding(named: AbstractSet[str]) -> frozenset[str]:
    """The labels of an image, and ``Finding`` where ``No finding`` is not among them."""
    return frozenset(named) if NO_FINDING in named else frozenset({*named, FINDING})


def modes(labels: Sequence[str], *, finding: bool) -> dict[str, list[str]]:
    """The published code's three: local findings, diagnoses, and both together.

    Args:
        labels: Those that the test set speaks of.
        finding: Whether ``Finding`` counts as a diagnosis, as it does there.
    """
    local = [label for label in labels if label in LOCAL_LABELS]
    diagnoses = [label for label in labels if label in DIAGNOSES]
    if finding and NO_FINDING in labels:
        diagnoses.append(FINDING)
    return {"local": local, "diagnoses": diagnoses, "combined": local + diagnoses}


class Classification:
    """Precision, recall and F1 under one rule for what counts as said."""

    def __init__(
        self,
        rule: str,
        labels: Mapping[str, Sequence[str]],
        truth: Sequence[AbstractSet[str]],
        said: Sequence[AbstractSet[str]],
    ) -> None:
        """Args:
        rule: Its name in the values' paths.
        labels: By mode (see ``modes``); the last has them all.
        truth: The labels that each image has.
        said: The labels that were named of it.
        """
        self._root = ("classification", rule)
        self._labels = list(labels.values())[-1]
        self._columns = {
            mode: [self._labels.index(label) for label in chosen] for mode, chosen in labels.items()
        }
        true, named = table(truth, self._labels), table(said, self._labels)
        self._counts = np.stack([true & named, true, named])  # (3, images, labels)
        self._occurring = (true | named).any(axis=0)  # (labels,)
        self._samples = Ratios(
            {
                (*self._root, mode, "samples", metric): (figures, 1.0)
                for mode, columns in self._columns.items()
                for metric, figures in zip(
                    METRICS, _scores(*self._counts[:, :, columns].sum(axis=2)), strict=True
                )
            }
        )

    def values(self, images: Images) -> Values:
        """("classification", rule, mode, average, metric) and (…, rule, "label", label, metric)."""
        counts = self._counts[:, images].sum(axis=1)  # (3, labels)
        by_label = _scores(*counts)  # (metrics, labels)
        # A draw can miss a rare label; counted as 0, that would pull down the interval of the macro average.
        by_label[:, self._occurring & (counts.sum(axis=0) == 0)] = np.nan
        values = self._samples.values(images)
        for label, figures in zip(self._labels, by_label.T, strict=True):
            values |= _named((*self._root, "label", label), figures)
        for mode, columns in self._columns.items():
            some, support = by_label[:, columns], counts[1, columns]
            there = ~np.isnan(some[0])  # (labels of the mode,)
            micro = _scores(*counts[:, columns].sum(axis=1))
            macro = some[:, there].mean(axis=1) if there.any() else np.full(len(METRICS), np.nan)
            weighted = some[:, there] @ support[there] / max(1, support.sum())
            for average, figures in (("micro", micro), ("macro", macro), ("weighted", weighted)):
                values |= _named((*self._root, mode, average), figures)
        return values


def normality(
    truth: Sequence[AbstractSet[str]],
    said: Sequence[AbstractSet[str]],
    judged: Sequence[bool] | None = None,
) -> Ratios:
    """Recall of ``Finding`` and of ``No finding``, over the images on which ``No finding`` was judged.

    Apart, because most images of a screening set have no finding: who never says one is right about most.
    """
    true, named = (table(map(with_finding, names), [FINDING, NO_FINDING]) for names in (truth, said))
    if judged is not None:
        true &= np.array(judged, dtype=np.bool_)[:, None]  # (images, 2)
    hits = true & named  # (images, 2)
    return Ratios(
        {
            ("recall", label): (hits[:, column], true[:, column])
            for column, label in enumerate([FINDING, NO_FINDING])
        }
    )


def _scores(hits: npt.ArrayLike, true: npt.ArrayLike, named: npt.ArrayLike) -> Figures:
    """(metrics, …): precision, recall and F1 from counts of any shape."""
    hit, wanted, given = (np.asarray(counted, dtype=np.float64) for counted in (hits, true, named))
    return np.stack(
        [
            hit / np.maximum(1, given),
            hit / np.maximum(1, wanted),
            2 * hit / np.maximum(1, wanted + given),
        ]
    )


def _named(path: Path, figures: Figures) -> Values:
    return {(*path, metric): figure for metric, figure in zip(METRICS, figures.tolist(), strict=True)}
