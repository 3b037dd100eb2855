"""CIDEr: how alike two texts are in what is rare (Vedantam, Zitnick, Parikh, arXiv 1411.5726), in its form D.

For n = 1..4 the n-grams of a text are a vector, each weighted by its count and by log(images / images whose
reference has it). Candidate and reference are compared by the cosine of these vectors, the candidate's
weights cut to the reference's and the whole damped by exp(-(difference in length)² / (2 sigma²)); the mean
over n, times 10.

What every reference says weighs nothing: the fixed words around the labels do not count, and where all
references are equal even the perfect answer scores 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

NGRAMS: Final = 4
SIGMA: Final = 6.0
SCALE: Final = 10.0

NGram = tuple[str, ...]


def cider(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    """CIDEr-D of each candidate, 0..10, words between blanks; one reference an image.

    The published code of LiteGPT calls this with the two exchanged, so that rarity is that of the answers.
    """
    counted = [_ngrams(text) for text in references]
    frequencies = Counter(ngram for counts in counted for ngram in counts)
    rarity = {ngram: math.log(len(references) / count) for ngram, count in frequencies.items()}
    unseen = math.log(len(references)) if references else 0.0
    return [
        _likeness(_ngrams(candidate), counts, rarity, unseen)
        for candidate, counts in zip(candidates, counted, strict=True)
    ]


def _ngrams(text: str) -> Counter[NGram]:
    words = text.split()
    return Counter(
        tuple(words[start : start + n]) for n in range(1, NGRAMS + 1) for start in range(len(words) - n + 1)
    )


def _likeness(
    candidate: Counter[NGram], reference: Counter[NGram], rarity: Mapping[NGram, float], unseen: float
) -> float:
    # Lengths are counted in pairs of words, as in the authors' code.
    difference = _length(candidate) - _length(reference)
    cosines = [
        _cosine(*(_weights(counts, n, rarity, unseen) for counts in (candidate, reference)))
        for n in range(1, NGRAMS + 1)
    ]
    return SCALE * math.exp(-(difference**2) / (2 * SIGMA**2)) * sum(cosines) / NGRAMS


def _length(counts: Counter[NGram]) -> int:
    return sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _weights(
    counts: Counter[NGram], n: int, rarity: Mapping[NGram, float], unseen: float
) -> dict[NGram, float]:
    return {ngram: count * rarity.get(ngram, unseen) for ngram, count in counts.items() if len(ngram) == n}


def _cosine(candidate: Mapping[NGram, float], reference: Mapping[NGram, float]) -> float:
    shared = sum(
        min(weight, reference[ngram]) * reference[ngram]
        for ngram, weight in candidate.items()
        if ngram in reference
    )
    norms = math.hypot(*candidate.values()) * math.hypot(*reference.values())
    return shared / norms if norms else 0.0
