"""How like the reference texts the answers are, as texts ("text validity" in the paper).

Boxes are taken out and the tags left in, as in the published code. All but CIDEr are times 100. Most words of
an answer are the same in every answer, so that even another image's answer scores high: read these measures
beside those of guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from training.evaluation.bootstrap import Figures, Images, Path, Ratios, Values
from training.evaluation.cider import cider
from training.evaluation.meteor import meteor, wordnet_is_there
from training.evaluation.published import without_boxes
from training.evaluation.statements import Answers

ROUGE: Final = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ORDERS: Final = (1, 2, 3, 4)


def likeness(answers: Sequence[Answers], references: Sequence[Answers]) -> Ratios:
    """What is a mean over images: ROUGE (F1, stemmed), CIDEr both ways round, METEOR where it can be had."""
    said, true = _texts(answers, " "), _texts(references, " ")
    parts: dict[Path, tuple[Figures, float]] = {}
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    # rougeLsum takes each line as a sentence.
    scores = [
        scorer.score(*pair) for pair in zip(_texts(references, "\n"), _texts(answers, "\n"), strict=True)
    ]
    for name in ROUGE:
        parts["text", name] = (np.array([100 * one[name].fmeasure for one in scores]), 1.0)
    parts["text", "cider"] = (np.array(cider(said, true)), 1.0)
    parts["text", "cider, as published"] = (np.array(cider(true, said)), 1.0)
    if wordnet_is_there():
        parts["text", "meteor"] = (100 * np.array(meteor(said, true)), 1.0)
    return Ratios(parts)


class Bleu:
    """BLEU-1..4 of all answers as one corpus (Papineni et al. 2002), tokens of mteval 13a, unsmoothed."""

    def __init__(self, answers: Sequence[Answers], references: Sequence[Answers]) -> None:
        """Args:
        answers: One an image.
        references: Likewise.
        """
        counter = BLEU(smooth_method="none", max_ngram_order=ORDERS[-1], effective_order=True)
        counts = [
            counter.sentence_score(answer, [reference])
            for answer, reference in zip(_texts(answers, " "), _texts(references, " "), strict=True)
        ]
        self._counts = np.array(
            [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in counts], dtype=np.intp
        )  # (images, 2 + 2 orders)

    def values(self, images: Images) -> Values:
        """("text", "bleu-n")."""
        said, true, *counts = self._counts[images].sum(axis=0).tolist()
        correct, total = counts[: len(ORDERS)], counts[len(ORDERS) :]
        return {
            ("text", f"bleu-{order}"): BLEU.compute_bleu(
                correct[:order], total[:order], said, true, max_ngram_order=order
            ).score
            for order in ORDERS
        }


def _texts(answers: Sequence[Answers], between: str) -> list[str]:
    return [without_boxes(between.join(one.sentences)) for one in answers]
