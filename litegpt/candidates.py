"""Boxes for findings that were not said: ranked measures (mAP, FROC) ask for them, a report does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from litegpt.answers import GridFinding
from litegpt.boxes import GridBox, about_right
from litegpt.constraint import boxes_of
from litegpt.decoding import Prefix
from litegpt.grammar import Grammar
from litegpt.spelling import Spelling
from litegpt.vocabulary import LOCAL_LABELS

_ROWS: Final = 64
"""Boxes decoded together."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A label whose box is wanted.

    Attributes:
        image: Of which image.
        said: What was said of it, in canonical order.
        label: One that was not.
    """

    image: int
    said: Sequence[GridFinding]
    label: str


def candidate_boxes(
    prefix: Prefix, grammar: Grammar, prompt: Sequence[int], wanted: Sequence[Wanted], pad: int
) -> list[tuple[GridBox, float] | None]:
    """Says each label in its place in the answer and lets the model go on with its box.

    Args:
        prefix: The images.
        grammar: Of answers in canonical order.
        prompt: Token ids after the image.
        wanted: Of any images.
        pad: Token id for padding.

    Returns:
        For each the box on the grid, and its score as of ``Finding``; None where the model's numbers failed.
    """
    spelling = grammar.spelling
    boxes: list[tuple[GridBox, float] | None] = []
    for start in range(0, len(wanted), _ROWS):
        some = wanted[start : start + _ROWS]
        suffixes = [[*prompt, *_up_to_label(spelling, each)] for each in some]
        decoder = prefix.ask([each.image for each in some], suffixes)
        labels = [LOCAL_LABELS.index(each.label) for each in some]
        budget = spelling.longest_box + len(spelling.end)
        decoded = decoder.generate(boxes_of(grammar, labels), budget=budget, pad=pad)
        for ids, probabilities in zip(decoded.ids.tolist(), decoded.probabilities.tolist(), strict=True):
            box = spelling.read_box(ids)
            boxes.append(box and (box[0], about_right(box[0], prod(probabilities[: box[1]]))))
    return boxes


def _up_to_label(spelling: Spelling, wanted: Wanted) -> tuple[int, ...]:
    """The answer as far as it comes before the label in the vocabulary, and the label."""
    place = LOCAL_LABELS.index(wanted.label)
    before = [finding for finding in wanted.said if LOCAL_LABELS.index(finding[0]) < place]
    names = spelling.following if before else spelling.first
    return spelling.findings(before) + names[wanted.label]
