"""METEOR by nltk, where nltk finds WordNet.

As in the published code: alpha 0.9, beta 3, gamma 0.5 (Banerjee & Lavie 2005), words as nltk's tokenizer cuts
them, matched by form, by stem, and by WordNet's synonyms. WordNet is data that nltk does not bring along; to
match by form and stem alone would be another measure under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nltk.corpus import wordnet
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.meteor_score import single_meteor_score

MISSING: Final = "nltk finds no WordNet (python -m nltk.downloader wordnet fetches it)"


def wordnet_is_there() -> bool:
    """Whether METEOR can be computed here."""
    try:
        wordnet.ensure_loaded()
    except LookupError:
        return False
    return True


def meteor(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    """METEOR of each candidate, 0..1.

    Raises:
        LookupError: Where nltk finds no WordNet.
    """
    cut = NLTKWordTokenizer().tokenize
    return [
        float(single_meteor_score(cut(reference), cut(candidate), wordnet=wordnet))
        for candidate, reference in zip(candidates, references, strict=True)
    ]
