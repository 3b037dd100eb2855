"""Greedy choice of the next token for a whole batch: free, or within the answers' grammar.

Everything is kept in tensors on the logits' device, so that no step waits for the host. A step of these is
hardly any arithmetic, but each operation costs its 2 to 10 µs; so there are few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import torch

from litegpt.boxes import GRID
from litegpt.grammar import BOX, DONE, Grammar, words
from litegpt.registers import (
    ALWAYS,
    COORDINATES,
    DIGIT,
    EMPTY,
    FREE,
    LABEL,
    MAXIMUM_FINDINGS,
    ONE_FINDING,
    PLACES,
    X_MAX,
    X_MIN,
    Y_MAX,
    Y_MIN,
    decided,
    digit,
    settle,
)

_NONE: Final = -1
"""No finding's number: all ones are no label."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One step.

    Attributes:
        tokens: (rows,) what is said; padding once an answer has ended.
        probabilities: (rows,) of each among what was legal.
        failed: (rows,) where the logits were not finite; such an answer ends here.
    """

    tokens: torch.Tensor
    probabilities: torch.Tensor
    failed: torch.Tensor


class Chooser(Protocol):
    """Chooses tokens row by row of a batch, and knows which rows have ended."""

    @property
    def ended(self) -> torch.Tensor:
        """(rows,)"""
        ...

    def choose(self, logits: torch.Tensor, remaining: int) -> Choice:
        """Takes (rows, vocabulary) logits, with ``remaining`` tokens of budget, this one included."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only, by index."""
        ...


class Unconstrained:
    """The most probable token of all, as the paper decodes (but greedily)."""

    def __init__(self, rows: int, *, eos: int, pad: int, device: str) -> None:
        self._eos, self._pad = eos, pad
        self._ended = torch.zeros(rows, dtype=torch.bool, device=device)

    @property
    def ended(self) -> torch.Tensor:
        """(rows,)"""
        return self._ended

    def choose(self, logits: torch.Tensor, remaining: int) -> Choice:
        """The largest logit; ``remaining`` makes no difference."""
        failed = _broken(logits) & ~self._ended  # (rows,)
        probabilities, tokens = logits.float().softmax(dim=-1).max(dim=-1)  # (rows,), (rows,)
        tokens = tokens.masked_fill(self._ended | failed, self._pad)
        self._ended = self._ended | failed | (tokens == self._eos)
        return Choice(tokens, probabilities, failed)

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only."""
        self._ended = self._ended[rows]


class Constrained:
    """The most probable token among those the grammar allows.

    A row's state is its node and the two numbers ``hand`` and ``least`` of ``litegpt.registers``. Where no
    order is imposed, all findings said are remembered, too.
    """

    def __init__(self, grammar: Grammar, nodes: torch.Tensor) -> None:
        """Args:
        grammar: Its tables, on the device of the logits.
        nodes: (rows,) where each row's answer begins.
        """
        self._grammar = grammar
        self._nodes = nodes
        self._hand = self._least = torch.full_like(nodes, EMPTY)  # (rows,)
        self._said = None if grammar.ordered else _Said(grammar, len(nodes))

    @property
    def ended(self) -> torch.Tensor:
        """(rows,)"""
        return self._nodes == DONE

    def choose(self, logits: torch.Tensor, remaining: int) -> Choice:
        """The largest logit among the legal ones; its probability is renormalised over these."""
        nodes = self._nodes
        tokens, barred = self.offered(remaining)  # (rows, edges), (rows, edges)
        offered = logits.gather(1, tokens).float().masked_fill_(barred, -torch.inf)  # (rows, edges)
        probabilities, edges = offered.softmax(dim=-1).max(dim=-1)  # (rows,), (rows,)
        broken = _broken(logits)  # (rows,)
        # Move 0 says padding and ends.
        places = torch.add(edges, nodes, alpha=tokens.shape[1]).masked_fill_(broken, 0)  # (rows,)
        said, self._nodes, kept, added = self._grammar.moves.index_select(0, places).unbind(1)  # each (rows,)
        self._settle(kept, added)
        return Choice(said, probabilities, broken & (nodes != DONE))

    def offered(self, remaining: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What may be said next, with ``remaining`` tokens of budget.

        Returns:
            (rows, edges) the tokens at each row's node, and (rows, edges) which are barred, never all.
        """
        grammar, nodes, hand = self._grammar, self._nodes, self._hand
        bounds = grammar.bounds[min(remaining, len(grammar.bounds) - 1)].index_select(0, nodes)  # (rows, 5)
        offset, shift, back, mask, onward = bounds.unbind(1)  # each (rows,)
        low = torch.maximum((self._least - hand + offset) >> shift, (hand >> back) & mask)  # (rows,)
        barred = grammar.highest.index_select(0, nodes) < low[:, None]  # (rows, edges)
        if grammar.onward is not None:
            # One finding more; and where its box begins in the last corner, none of its label is left.
            after = hand + (ONE_FINDING + (1 << PLACES[X_MIN]))  # (rows,)
            after = (after >> PLACES[LABEL]) & onward
            barred |= grammar.onward.index_select(0, nodes) < after[:, None]
        if self._said is not None:
            barred |= self._said.barred(nodes, hand, low)
        return grammar.tokens.index_select(0, nodes), barred

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only."""
        self._nodes, self._hand, self._least = self._nodes[rows], self._hand[rows], self._least[rows]
        if self._said is not None:
            self._said.keep(rows)

    def say_labels(self, labels: torch.Tensor) -> None:
        """Takes (rows,) labels into the hand, as if they had been chosen."""
        kept, _ = settle(LABEL, 0, ordered=self._grammar.ordered)
        self._settle(torch.full_like(labels, kept), labels << PLACES[LABEL])

    def _settle(self, kept: torch.Tensor, added: torch.Tensor) -> None:
        """Writes a choice into the registers: (rows,) bits of ``hand`` to keep, and what to add."""
        hand = (self._hand & kept) + added  # (rows,)
        if self._said is not None:
            complete = added >= ONE_FINDING  # (rows,)
            self._said.add((self._hand - EMPTY) // ONE_FINDING, torch.where(complete, hand, _NONE))
        # Only with a label not all bits are kept; until then, hand was the least that may follow.
        self._least = torch.where(kept < 0, self._least, self._hand)
        self._hand = hand


class _Said:
    """All findings said, where no order keeps them apart."""

    def __init__(self, grammar: Grammar, rows: int) -> None:
        device = grammar.tokens.device
        self._grammar = grammar
        # One place more, for what is written there once all findings are said.
        self._findings = torch.full((rows, MAXIMUM_FINDINGS + 1), _NONE, device=device)
        self._grid = torch.arange(GRID + 1, device=device)  # (101,)
        self._bits = torch.tensor([words([value]) for value in range(GRID + 1)], device=device)  # (101, 2)
        self._views = torch.tensor([_view(slot) for slot in range(FREE + 1)], device=device)  # (slots, 7)
        self._heights = torch.ones(FREE + 1, GRID + 1, dtype=torch.long, device=device)  # (slots, 101)
        self._heights[Y_MIN] = GRID - self._grid

    def add(self, places: torch.Tensor, findings: torch.Tensor) -> None:
        """Remembers (rows,) findings, each as the one with this number in its row."""
        self._findings.scatter_(1, places[:, None], findings[:, None])

    def barred(self, nodes: torch.Tensor, hand: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        """(rows, edges) that lead only to digits below (rows,) ``low`` or to findings that have been said.

        A value is used up when as many findings have been said that begin like the one in hand, and then with
        it, as there are boxes that do.
        """
        slots = self._grammar.slots.index_select(0, nodes)  # (rows,)
        decided, place, zero, zero_low, boxes, back, mask = self._views.index_select(0, slots).unbind(1)
        alike = (self._findings & decided[:, None]) == (hand & decided)[:, None]  # (rows, 41)
        values = (self._findings >> place[:, None] & DIGIT - 1) - zero[:, None]  # (rows, 41)
        counts = torch.zeros(len(slots), GRID + 1, dtype=torch.long, device=slots.device)
        counts.scatter_add_(1, values, alike.long())  # (rows, 101)
        boxes = (boxes - (hand >> back & mask))[:, None] * self._heights.index_select(0, slots)  # (rows, 101)
        out = (counts >= boxes) | (self._grid < (low - zero_low)[:, None])  # (rows, 101)
        out_words = torch.where(out[..., None], self._bits, 0).sum(dim=1)  # (rows, 2)
        reach = self._grammar.reach.index_select(0, nodes)  # (rows, edges, 2)
        return ((reach & ~out_words[:, None]) == 0).all(dim=-1)

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only."""
        self._findings = self._findings[rows]


class _View(NamedTuple):
    """How findings are looked at from a slot.

    Attributes:
        decided: Mask of what is decided.
        place: Of the slot's digit.
        zero, zero_low: The digit of the value 0, in a finding and among the lowest legal ones.
        boxes, back, mask: How many boxes begin alike: ``boxes`` less the digit of ``hand`` at ``back``; at
            ``Y_MIN``, times the height that is left.
    """

    decided: int
    place: int
    zero: int
    zero_low: int
    boxes: int
    back: int = 0
    mask: int = 0


def _view(slot: int) -> _View:
    if slot not in COORDINATES:
        return _View(0, 0, digit(Y_MAX, 0), ALWAYS, DIGIT)
    seen = decided(slot), PLACES[slot], digit(slot, 0), digit(slot, 0)
    # Before a Y_MIN there are always more boxes than may be said.
    beside = {Y_MIN: X_MIN, X_MAX: Y_MIN}
    if slot in beside:
        return _View(*seen, DIGIT, PLACES[beside[slot]], DIGIT - 1)
    return _View(*seen, 1 if slot == Y_MAX else DIGIT)


def _broken(logits: torch.Tensor) -> torch.Tensor:
    """(rows,) where any of (rows, vocabulary) logits is NaN or infinite.

    One sum finds that out at a tenth of the cost of looking at each; finite logits that add up to more than
    float32 holds come from no model that works.
    """
    total = logits.sum(dim=-1, dtype=torch.float32)  # (rows,)
    return (total - total).isnan()  # as is ∞ - ∞


def constrained(grammar: Grammar, tags: Sequence[str], batch: int) -> Constrained:
    """A chooser for ``batch`` answers to each prompt in turn."""
    return going_on(grammar, [grammar.starts[tag] for tag in tags], batch)


def going_on(grammar: Grammar, nodes: Sequence[int], batch: int) -> Constrained:
    """A chooser for ``batch`` answers that go on from each node in turn."""
    return Constrained(grammar, torch.tensor(nodes, device=grammar.tokens.device).repeat_interleave(batch))


def boxes_of(grammar: Grammar, labels: Sequence[int]) -> Constrained:
    """A chooser of a box for each label, by its place in the vocabulary, that has just been said."""
    chooser = going_on(grammar, [grammar.starts[BOX]], len(labels))
    chooser.say_labels(torch.tensor(labels, device=grammar.tokens.device))
    return chooser
