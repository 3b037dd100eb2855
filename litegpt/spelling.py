"""How a tokenizer spells the local answer, cut at its numbers.

Everything is found by asking it for whole answers, so that only canonical tokenisations come of it: what one
token is to one tokenizer (``<12>``) is four to another, and ends one or two characters into its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from litegpt.answers import GridFinding, join_findings
from litegpt.boxes import GRID
from litegpt.errors import ModelError
from litegpt.registers import COORDINATES, X_MAX, X_MIN, Y_MAX, Y_MIN
from litegpt.vocabulary import LOCAL_LABELS

_EXAMPLE: Final = (12, 34, 56, 78)
_BEFORE: Final = (LOCAL_LABELS[0], (9, 8, 76, 54))

Tokens = tuple[int, ...]
Writer = Callable[[str], Tokens]
"""Writes a text as tokens, EOS included."""


class Spelling:
    """How a tokenizer writes the local answer, cut at the numbers.

    Attributes:
        first, following: By label, all tokens up to the first number, as the first finding or a later one
            (then from the last number of the finding before it).
        numbers: By coordinate and value.
        between: By coordinate, the tokens before its number (from ``Y_MIN`` on).
        end: From the last number on.
    """

    def __init__(self, write: Writer) -> None:
        alone = _Cut(write, ())
        after = _Cut(write, (_BEFORE,))
        spans = alone.spans(LOCAL_LABELS[0])
        example = alone.tokens(LOCAL_LABELS[0], _EXAMPLE)
        self.numbers = {slot: alone.numbers(LOCAL_LABELS[0], slot) for slot in COORDINATES}
        self.between = {slot: example[spans[slot - 1][1] : spans[slot][0]] for slot in (Y_MIN, X_MAX, Y_MAX)}
        self.end = example[spans[Y_MAX][1] :]
        self.first = {label: alone.beginning(label) for label in LOCAL_LABELS}
        before = len(_Cut(write, ()).tokens(*_BEFORE)) - len(self.end)
        self.following = {label: after.beginning(label)[before:] for label in LOCAL_LABELS}

    @classmethod
    def of(cls, write: Writer) -> Spelling:
        """Cuts, and makes sure that the pieces put together are what the tokenizer writes.

        Raises:
            ModelError: If they are not.
        """
        pieces = cls(write)
        for findings in _examples():
            if pieces.joined(findings) != write(join_findings(findings)):
                raise ModelError(
                    f"the tokenizer writes {join_findings(findings)!r} in a way that the answers' grammar "
                    "cannot follow; only unconstrained decoding is possible with it"
                )
        return pieces

    def joined(self, findings: Sequence[GridFinding]) -> Tokens:
        """The tokens of an answer, from the pieces."""
        tokens: Tokens = ()
        for number, (label, box) in enumerate(findings):
            tokens += self.following[label] if number else self.first[label]
            for slot, value in zip(COORDINATES, box, strict=True):
                tokens += self.between.get(slot, ()) + self.numbers[slot][value]
        return tokens + self.end


class _Cut:
    """Finds where the numbers of an answer's last finding are, by trying them all."""

    def __init__(self, write: Writer, before: tuple[GridFinding, ...]) -> None:
        self._write = write
        self._before = before

    def tokens(self, label: str, box: tuple[int, int, int, int]) -> Tokens:
        return self._write(join_findings([*self._before, (label, box)]))

    def variants(self, label: str, slot: int) -> dict[int, Tokens]:
        place = slot - X_MIN
        return {
            value: self.tokens(label, (*_EXAMPLE[:place], value, *_EXAMPLE[place + 1 :]))  # type: ignore[arg-type]
            for value in COORDINATES[slot]
        }

    def spans(self, label: str) -> dict[int, tuple[int, int]]:
        """By coordinate, where the example's number begins and ends."""
        length = len(self.tokens(label, _EXAMPLE))
        spans = {}
        for slot in COORDINATES:
            variants = list(self.variants(label, slot).values())
            spans[slot] = (
                common_beginning(variants),
                length - common_beginning([tokens[::-1] for tokens in variants]),
            )
        return spans

    def numbers(self, label: str, slot: int) -> dict[int, Tokens]:
        variants = self.variants(label, slot)
        start = common_beginning(list(variants.values()))
        after = common_beginning([tokens[::-1] for tokens in variants.values()])
        return {value: tokens[start : len(tokens) - after] for value, tokens in variants.items()}

    def beginning(self, label: str) -> Tokens:
        variants = list(self.variants(label, X_MIN).values())
        return variants[0][: common_beginning(variants)]


def _examples() -> Iterator[list[GridFinding]]:
    """Every label as the first finding and as the second, every number in every place."""
    for label in LOCAL_LABELS:
        yield [(label, _EXAMPLE), (label, (0, 0, GRID, GRID))]
        yield [(LOCAL_LABELS[-1], (0, 1, 2, 3)), (label, (GRID - 1, GRID - 1, GRID, GRID))]
    for low in range(GRID):
        yield [(LOCAL_LABELS[0], (low, GRID - 1 - low, low + 1, GRID - low)), (LOCAL_LABELS[1], _EXAMPLE)]


def common_beginning(sequences: Sequence[Tokens]) -> int:
    """Length of the longest common beginning."""
    shortest, longest = min(sequences), max(sequences)
    for place, (one, other) in enumerate(zip(shortest, longest, strict=False)):
        if one != other:
            return place
    return min(len(shortest), len(longest))
