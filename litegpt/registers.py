"""The finding in hand as one whole number, so that what may come next is a matter of being large enough.

    bit   41   40..34   33..28   27..21   20..14   13..7   6..0
          1    count    label    y_min    x_min    x_max   y_max

A box is written by the first and the last step of the grid that it covers in either direction, each counted
from 28 to 127. So the last is at least the first; and as no digit exceeds 127, a finding's number and 1, with
all carries, is the least number of a finding that comes after it in canonical order.

Two such numbers make a row's state: ``hand``, the finding being said, with 0 for what is not yet decided, and
``least``, the least that it may become. At each slot a decision is legal if its digit is at least

    max((least - hand + offset) >> shift, (hand >> back) & mask)

The left side is the least digit that can still lead to ``least`` or more. The right side is, for the end of a
box, its beginning; and for a label the last one said, or more than any label when there is no room for one
more finding.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from litegpt.boxes import GRID
from litegpt.vocabulary import LOCAL_LABELS

LABEL, X_MIN, Y_MIN, X_MAX, Y_MAX, FREE = range(6)
"""What is being decided at a node of the grammar: a register of the automaton, or nothing."""

END: Final = len(LOCAL_LABELS)
"""The decision to end the list, or to say that there is no finding."""

COORDINATES: Final = {
    X_MIN: range(GRID),
    Y_MIN: range(GRID),
    X_MAX: range(1, GRID + 1),
    Y_MAX: range(1, GRID + 1),
}
"""The values each coordinate may have."""

MAXIMUM_FINDINGS: Final = 40

DIGIT: Final = 128
"""How many values a coordinate's digit has room for."""

PLACES: Final = {Y_MAX: 0, X_MAX: 7, X_MIN: 14, Y_MIN: 21, LABEL: 28}
"""By slot, the bit its digit begins at."""

ALWAYS: Final = 1 << 62
"""More than any bound: the digit of what is always legal."""

ONE_FINDING: Final = 1 << 34
"""What a finding adds to the count."""

_FULL: Final = 1 << 40
"""The count's highest bit, set once there are ``MAXIMUM_FINDINGS``."""

_SET: Final = 1 << 41
"""The bit that is always set."""

_LABEL_BITS: Final = ONE_FINDING - (1 << PLACES[LABEL])

EMPTY: Final = _SET + _FULL - MAXIMUM_FINDINGS * ONE_FINDING
"""``hand`` and ``least`` before the first finding."""

_NEVER: Final = -(1 << 60)


class Bound(NamedTuple):
    """What makes the least legal digit at a slot of a row's state: the formula's constants."""

    offset: int
    shift: int
    back: int
    mask: int


def digit(slot: int, value: int) -> int:
    """A decision as a digit: a label's place in the vocabulary, or a step of the grid."""
    if slot == LABEL:
        return value
    return value - COORDINATES[slot].start + DIGIT - GRID


def settle(slot: int, value: int, *, ordered: bool) -> tuple[int, int]:
    """What saying a value does to ``hand``: the bits it keeps, and what is added.

    A label, which begins a new finding, keeps only the count; anything else keeps all (-1). With its last
    number a finding is counted, and where the order is imposed, ``hand`` becomes the least that may follow.
    """
    added = digit(slot, value) << PLACES[slot]
    if slot == LABEL:
        return 2 * _SET - ONE_FINDING, added
    if slot == Y_MAX:
        return -1, added + ONE_FINDING + int(ordered)
    return -1, added


def bound(slot: int, *, ordered: bool) -> Bound:
    """The least legal digit at a slot."""
    corner = {X_MAX: PLACES[X_MIN], Y_MAX: PLACES[Y_MIN]}
    back, mask = corner.get(slot, 0), DIGIT - 1 if slot in corner else 0
    if slot == LABEL:
        back, mask = PLACES[LABEL], room(ordered=ordered, enough=True)
    if slot == FREE or not ordered:
        return Bound(_NEVER, 0, back, mask)
    offset = {
        # x_min is said first, but y_min goes before it: any x_min may be made up for by a larger y_min …
        X_MIN: -(DIGIT - 1 << PLACES[Y_MIN]),
        # … and a y_min as large as the least makes do if x_min is, too.
        Y_MIN: (1 << PLACES[Y_MIN]) - (1 << PLACES[X_MIN]),
    }
    return Bound(offset.get(slot, 0), PLACES[slot], back, mask)


def room(*, ordered: bool, enough: bool) -> int:
    """Mask of ``hand`` from the label's digit up, to make the least legal label.

    Args:
        ordered: Whether labels may not go back.
        enough: Whether the budget has room for one more finding; otherwise every label is barred.
    """
    mask = _FULL | (_LABEL_BITS if ordered else 0) | (0 if enough else _SET)
    return mask >> PLACES[LABEL]


def decided(slot: int) -> int:
    """Mask of ``hand`` for what has been decided of a finding when a slot's turn comes."""
    before = [LABEL, *COORDINATES][: min(slot, Y_MAX)] if slot != FREE else []
    return sum((_LABEL_BITS if register == LABEL else DIGIT - 1 << PLACES[register]) for register in before)
