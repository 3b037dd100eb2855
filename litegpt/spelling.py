"""How a tokenizer spells the local answer, cut at its numbers.

Everything is found by asking it for whole answers, so that only canonical tokenisations come of it: what one
token is to one tokenizer (``<12>``) is four to another, and ends one or two characters into its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from litegpt.answers import GridFinding, join_findings
from litegpt.boxes import GRID, GridBox
from litegpt.errors import ModelError
from litegpt.registers import COORDINATES, X_MAX, X_MIN, Y_MAX, Y_MIN
from litegpt.vocabulary import LOCAL_LABELS

_EXAMPLE: Final = (12, 34, 56, 78)
_BEFORE: Final = (LOCAL_LABELS[0], (9, 8, 76, 54))

_TOGETHER: Final = 40
"""Findings in one answer when all numbers are tried."""

Tokens = tuple[int, ...]
Writer = Callable[[str], Tokens]
"""Writes a text as tokens, EOS included."""


class Spelling:
    """The pieces.

    Attributes:
        first, following: By label, all tokens up to the first number, as the first finding or a later one
            (then from the last number of the finding before it).
        numbers: By coordinate and value.
        between: By coordinate, the tokens before its number (from ``Y_MIN`` on).
        end: From the last number on.
        nothing: The answer that there is no finding.
    """

    def __init__(self, write: Writer) -> None:
        alone = _Cut(write, ())
        after = _Cut(write, (_BEFORE,))
        spans = alone.spans(LOCAL_LABELS[0])
        example = alone.tokens(LOCAL_LABELS[0], _EXAMPLE)
        self.numbers = {slot: alone.numbers(LOCAL_LABELS[0], slot) for slot in COORDINATES}
        self.between = {slot: example[spans[slot - 1][1] : spans[slot][0]] for slot in (Y_MIN, X_MAX, Y_MAX)}
        self.end = example[spans[Y_MAX][1] :]
        self.nothing = write(join_findings([]))
        self.first = {label: alone.beginning(label) for label in LOCAL_LABELS}
        before = len(_Cut(write, ()).tokens(*_BEFORE)) - len(self.end)
        self.following = {label: after.beginning(label)[before:] for label in LOCAL_LABELS}

    @classmethod
    def of(cls, write: Writer) -> Spelling:
        """Cuts, and makes sure that the pieces put together are what the tokenizer writes.

        Raises:
            ModelError: If they are not.
        """
        spelling = cls(write)
        for findings in _examples():
            if not spelling.holds(findings, write):
                parts = [findings[end - 2 : end] for end in range(2, len(findings) + 1)]
                shortest = next((part for part in parts if not spelling.holds(part, write)), findings)
                raise ModelError(
                    f"the tokenizer writes {join_findings(shortest)!r} in a way that the answers' grammar "
                    "cannot follow; only unconstrained decoding is possible with it"
                )
        return spelling

    def holds(self, findings: Sequence[GridFinding], write: Writer) -> bool:
        """Whether the tokenizer writes an answer as the pieces do."""
        return self.joined(findings) == write(join_findings(findings))

    def joined(self, findings: Sequence[GridFinding]) -> Tokens:
        """The tokens of an answer that says at least one finding."""
        return self.findings(findings) + self.end

    def findings(self, findings: Sequence[GridFinding]) -> Tokens:
        """The tokens of an answer up to the last number of these findings."""
        tokens: Tokens = ()
        for number, (label, box) in enumerate(findings):
            tokens += (self.following if number else self.first)[label] + self.box(box)
        return tokens

    def box(self, box: GridBox) -> Tokens:
        """The tokens from the first number to the last."""
        tokens: Tokens = ()
        for slot, value in zip(COORDINATES, box, strict=True):
            tokens += self.between.get(slot, ()) + self.numbers[slot][value]
        return tokens

    def read_box(self, tokens: Sequence[int]) -> tuple[GridBox, int] | None:
        """The box that tokens begin with, and how many they are; None where they begin with none."""
        values, at = [], 0
        for slot, numbers in self.numbers.items():
            at += len(self.between.get(slot, ()))
            ways = {number: value for value, number in numbers.items()}
            lengths = sorted({len(number) for number in ways}, reverse=True)  # 78 begins as 7 does
            length = next((some for some in lengths if tuple(tokens[at : at + some]) in ways), 0)
            if not length:
                return None
            values.append(ways[tuple(tokens[at : at + length])])
            at += length
        return (values[0], values[1], values[2], values[3]), at

    @property
    def longest_box(self) -> int:
        """In tokens."""
        numbers = sum(max(map(len, numbers.values())) for numbers in self.numbers.values())
        return numbers + sum(map(len, self.between.values()))


class _Cut:
    """Finds where the numbers of an answer's last finding are, by trying them all."""

    def __init__(self, write: Writer, before: tuple[GridFinding, ...]) -> None:
        self._write = write
        self._before = before

    def tokens(self, label: str, box: tuple[int, int, int, int]) -> Tokens:
        return self._write(join_findings([*self._before, (label, box)]))

    def variants(self, label: str, slot: int, values: Iterable[int]) -> dict[int, Tokens]:
        place = slot - X_MIN
        return {
            value: self.tokens(label, (*_EXAMPLE[:place], value, *_EXAMPLE[place + 1 :]))  # type: ignore[arg-type]
            for value in values
        }

    def spans(self, label: str) -> dict[int, tuple[int, int]]:
        """By coordinate, where the example's number begins and ends."""
        length = len(self.tokens(label, _EXAMPLE))
        spans = {}
        for slot in COORDINATES:
            variants = list(self.variants(label, slot, COORDINATES[slot]).values())
            spans[slot] = (
                common_beginning(variants),
                length - common_beginning([tokens[::-1] for tokens in variants]),
            )
        return spans

    def numbers(self, label: str, slot: int) -> dict[int, Tokens]:
        variants = self.variants(label, slot, COORDINATES[slot])
        start = common_beginning(list(variants.values()))
        after = common_beginning([tokens[::-1] for tokens in variants.values()])
        return {value: tokens[start : len(tokens) - after] for value, tokens in variants.items()}

    def beginning(self, label: str) -> Tokens:
        # Of each first digit one is enough: whatever is wrong with others is found by trying all.
        variants = list(self.variants(label, X_MIN, range(0, GRID, 11)).values())
        return variants[0][: common_beginning(variants)]


def _examples() -> Iterator[list[GridFinding]]:
    """Every label first and last, all pairs of neighbouring numbers, all of them beside every label.

    A vocabulary may have one token for ``38><4`` and none for ``37><4``. Not all of these are boxes.
    """
    for label in LOCAL_LABELS:
        yield [(label, _EXAMPLE), (label, (0, 0, GRID, GRID))]
        yield [(LOCAL_LABELS[-1], (0, 1, 2, 3)), (label, (GRID - 1, GRID - 1, GRID, GRID))]
    labels = len(LOCAL_LABELS)
    pairs = [divmod(number, GRID) for number in range(GRID * GRID)]
    findings = [
        # The quotient, as the two counts share a factor.
        (LOCAL_LABELS[(number + number // (GRID * labels // 2)) % labels], (low, high, low + 1, high + 1))
        for number, (low, high) in enumerate(pairs)
    ]
    for start in range(0, len(findings), _TOGETHER):
        yield findings[start : start + _TOGETHER]


def common_beginning(sequences: Sequence[Tokens]) -> int:
    """Length of the longest common beginning."""
    shortest, longest = min(sequences), max(sequences)
    for place, (one, other) in enumerate(zip(shortest, longest, strict=False)):
        if one != other:
            return place
    return min(len(shortest), len(longest))
