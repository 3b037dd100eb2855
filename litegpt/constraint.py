"""Greedy choice of the next token for a whole batch: free, or within the answers' grammar.

Everything is kept in tensors on the logits' device, so that no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from litegpt.boxes import GRID
from litegpt.grammar import BOX, DONE, END, LABEL, X_MAX, Y_MAX, Y_MIN, Grammar, words

MAXIMUM_FINDINGS: Final = 40


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
        failed = ~torch.isfinite(logits).all(dim=-1) & ~self._ended  # (rows,)
        probabilities, tokens = logits.float().softmax(dim=-1).max(dim=-1)  # (rows,), (rows,)
        tokens = tokens.masked_fill(self._ended | failed, self._pad)
        self._ended = self._ended | failed | (tokens == self._eos)
        return Choice(tokens, probabilities, failed)

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only."""
        self._ended = self._ended[rows]


class Constrained:
    """The most probable token among those the grammar allows, with the registers it needs for that.

    A finding in hand is ``(label, x_min, y_min, x_max, y_max)``. Where the order is imposed, comparing with
    the finding before is enough to keep findings apart; otherwise all findings said are remembered.
    """

    def __init__(self, grammar: Grammar, nodes: torch.Tensor) -> None:
        """Args:
        grammar: Its tables, on the device of the logits.
        nodes: (rows,) where each row's answer begins.
        """
        rows, device = len(nodes), nodes.device
        self._grammar = grammar
        self._nodes = nodes
        self._hand = torch.zeros(rows, Y_MAX + 1, dtype=torch.long, device=device)  # (rows, 5)
        self._said = torch.zeros(rows, MAXIMUM_FINDINGS, Y_MAX + 1, dtype=torch.long, device=device)
        self._before = self._hand
        self._count = torch.zeros(rows, dtype=torch.long, device=device)
        self._registers = torch.arange(Y_MAX + 1, device=device)
        everything = range(GRID + 1)
        self._from = torch.tensor([words(everything[low:]) for low in range(GRID + 2)], device=device)
        self._bits = torch.tensor([words([value]) for value in everything], device=device)  # (101, 2)
        labels = [words(range(low, END))[0] for low in range(END + 1)]
        self._labels = torch.tensor(labels, device=device)
        self._grid = torch.arange(GRID + 1, device=device)

    @property
    def ended(self) -> torch.Tensor:
        """(rows,)"""
        return self._nodes == DONE

    def choose(self, logits: torch.Tensor, remaining: int) -> Choice:
        """The largest logit among the legal ones; its probability is renormalised over these."""
        grammar, nodes = self._grammar, self._nodes
        failed = ~torch.isfinite(logits).all(dim=-1) & (nodes != DONE)  # (rows,)
        slots = grammar.slots[nodes]  # (rows,)
        permitted = self._permitted(slots, nodes, remaining)  # (rows, 2)
        legal = (grammar.reach[nodes] & permitted[:, None]).any(dim=-1)  # (rows, edges)
        if grammar.onward is not None:
            legal &= (grammar.onward[nodes] & self._labels_after(nodes, remaining)[:, None]) != 0
        tokens = grammar.tokens[nodes]  # (rows, edges)
        offered = logits.gather(1, tokens).float().masked_fill(~legal, -torch.inf)  # (rows, edges)
        probabilities, edges = offered.softmax(dim=-1).max(dim=-1, keepdim=True)  # (rows, 1), (rows, 1)
        self._settle(slots, grammar.settles[nodes].gather(1, edges))
        self._nodes = grammar.targets[nodes].gather(1, edges)[:, 0].masked_fill(failed, DONE)
        return Choice(tokens.gather(1, edges)[:, 0], probabilities[:, 0], failed)

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with these rows only."""
        self._nodes, self._hand, self._said = self._nodes[rows], self._hand[rows], self._said[rows]
        self._before, self._count = self._before[rows], self._count[rows]

    def say_labels(self, labels: torch.Tensor) -> None:
        """Takes (rows,) labels into the hand, as if they had been chosen."""
        self._hand = self._hand.clone()
        self._hand[:, LABEL] = labels

    def _settle(self, slots: torch.Tensor, values: torch.Tensor) -> None:
        """Writes (rows, 1) values, -1 for none, into the registers that (rows,) slots name."""
        written = (self._registers == slots[:, None]) & (values >= 0)  # (rows, 5)
        self._hand = torch.where(written, values, self._hand)
        complete = written[:, Y_MAX]  # (rows,)
        self._before = torch.where(complete[:, None], self._hand, self._before)
        if not self._grammar.ordered:
            place = self._count.clamp(max=MAXIMUM_FINDINGS - 1)[:, None, None]  # (rows, 1, 1)
            place = place.expand(-1, 1, Y_MAX + 1)
            entry = torch.where(complete[:, None], self._hand, self._said.gather(1, place)[:, 0])
            self._said.scatter_(1, place, entry[:, None])
        self._count = self._count + complete

    def _permitted(self, slots: torch.Tensor, nodes: torch.Tensor, remaining: int) -> torch.Tensor:
        """(rows, 2) words of the decisions that are legal now."""
        label_from, lows = self._ordered_from() if self._grammar.ordered else self._corners_from()
        labels = self._labels_from(label_from, self._count, nodes, remaining)  # (rows,)
        numbers = self._from[lows.gather(1, slots[:, None])[:, 0]]  # (rows, 2)
        if not self._grammar.ordered:
            numbers = numbers & ~self._used_up(slots)
        return torch.where((slots == LABEL)[:, None], labels[:, None], numbers)

    def _labels_from(
        self, first: torch.Tensor, count: torch.Tensor, nodes: torch.Tensor, remaining: int
    ) -> torch.Tensor:
        """(rows,) word of the labels from ``first`` on that there is room for, and the end."""
        room = (count < MAXIMUM_FINDINGS) & (self._grammar.needs[nodes] <= remaining)  # (rows,)
        return self._labels[first] * room | (1 << END)

    def _labels_after(self, nodes: torch.Tensor, remaining: int) -> torch.Tensor:
        """(rows,) the same once the finding in hand is said."""
        label, x_min, y_min, _, _ = self._hand.unbind(dim=1)
        exhausted = (x_min == GRID - 1) & (y_min == GRID - 1)  # then its last corner can only be (100, 100)
        first = label + exhausted if self._grammar.ordered else torch.zeros_like(label)
        return self._labels_from(first, self._count + 1, nodes, remaining)

    def _corners_from(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows,) first legal label and (rows, 6) least legal value by slot, by the corners' order alone."""
        zero = torch.zeros_like(self._count)
        _, x_min, y_min, _, _ = self._hand.unbind(dim=1)
        return zero, torch.stack([zero, zero, zero, x_min + 1, y_min + 1, zero], dim=1)

    def _ordered_from(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same where findings increase by (label, y_min, x_min, x_max, y_max).

        Each bound also leaves a larger box possible: of two boxes alike so far, the later numbers decide.
        """
        label, x_min, y_min, x_max, _ = self._hand.unbind(dim=1)
        label_before, x_1, y_1, x_2, y_2 = self._before.unbind(dim=1)
        tied = (label == label_before) & (self._count > 0)  # (rows,)
        corner = (x_2 == GRID) & (y_2 == GRID)  # no larger box has the same first corner
        last = GRID - 1
        exhausted = corner & (x_1 == last) & (y_1 == last)
        zero = torch.zeros_like(label)
        from_x_min = torch.where(tied & (y_1 == last), x_1 + corner, zero)
        from_y_min = torch.where(tied, y_1 + ((x_min < x_1) | ((x_min == x_1) & corner)), zero)
        alike = tied & (x_min == x_1) & (y_min == y_1)
        from_x_max = torch.where(alike, x_2 + (y_2 == GRID), x_min + 1)
        from_y_max = torch.where(alike & (x_max == x_2), y_2 + 1, y_min + 1)
        lows = [zero, from_x_min, from_y_min, from_x_max, from_y_max, zero]
        return label_before + exhausted, torch.stack(lows, dim=1)

    def _used_up(self, slots: torch.Tensor) -> torch.Tensor:
        """(rows, 2) words of the values after which every finding has been said already."""
        past = torch.arange(MAXIMUM_FINDINGS, device=slots.device) < self._count[:, None]  # (rows, 40)
        decided = self._registers < slots[:, None]  # (rows, 5)
        same = (self._said == self._hand[:, None]) | ~decided[:, None]  # (rows, 40, 5)
        alike = same.all(dim=-1) & past  # (rows, 40)
        place = slots.clamp(max=Y_MAX)[:, None, None].expand(-1, MAXIMUM_FINDINGS, 1)
        values = self._said.gather(2, place)[..., 0]  # (rows, 40)
        counts = torch.zeros(len(slots), GRID + 1, dtype=torch.long, device=slots.device)
        counts = counts.scatter_add(1, values, alike.long())  # (rows, 101)
        full = (counts > 0) & (counts >= self._capacity(slots))  # (rows, 101)
        return (full[..., None] * self._bits).sum(dim=1)

    def _capacity(self, slots: torch.Tensor) -> torch.Tensor:
        """(rows, 101) how many findings there are that share all decided and the value in question."""
        _, x_min, y_min, _, _ = self._hand.unbind(dim=1)
        never = torch.full_like(x_min, MAXIMUM_FINDINGS + 1)
        first = torch.where(slots == Y_MAX, 1, torch.where(slots == X_MAX, GRID - y_min, never))
        by_y_min = (GRID - self._grid) * (GRID - x_min)[:, None]  # (rows, 101)
        return torch.where((slots == Y_MIN)[:, None], by_y_min, first[:, None])


def constrained(grammar: Grammar, tags: Sequence[str], batch: int, *, opened: bool = False) -> Constrained:
    """A chooser for ``batch`` answers to each prompt in turn; ``opened``: their openings are said already."""
    nodes = [grammar.opening(tag)[1] if opened else grammar.starts[tag] for tag in tags]
    return Constrained(grammar, torch.tensor(nodes, device=grammar.tokens.device).repeat_interleave(batch))


def boxes_of(grammar: Grammar, labels: Sequence[int]) -> Constrained:
    """A chooser of a box for each label, by its place in the vocabulary, that has just been said."""
    device = grammar.tokens.device
    chooser = Constrained(grammar, torch.full((len(labels),), grammar.starts[BOX], device=device))
    chooser.say_labels(torch.tensor(labels, device=device))
    return chooser
