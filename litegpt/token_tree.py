"""Many token sequences in one forward pass: what they begin with in common is said once.

    Global diseases … are ─┬─ No ── finding .
                           ├─ COPD ┬─ .
                           │       └─ , ─┬─ Lung ── tumor …
                           │             └─ Pneumonia …
                           └─ Lung ── tumor …

Every token sees the prompt and the tokens on its own way there, and stands at the position that it would have
in its sequence; so the logits are those of teacher-forcing each sequence by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

Tokens = tuple[int, ...]

Shares = npt.NDArray[np.float64]
"""(forks, most tokens) by a fork's number: how probability is shared out among its tokens; then zeros."""

BEFORE: Final = -1
"""The node that stands for what the whole tree follows."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A node at which continuations part.

    Attributes:
        number: Which of its tree's forks this is.
        node: Whose logits decide.
        tokens: What may come next.
        leads: For each of these, the next fork, or the index of the only continuation that is left.
    """

    number: int
    node: int
    tokens: Tokens
    leads: tuple[Fork | int, ...]

    def all(self) -> Iterator[Fork]:
        """This fork and all behind it."""
        yield self
        for lead in self.leads:
            if isinstance(lead, Fork):
                yield from lead.all()


class TokenTree:
    """A tree of tokens; its nodes are numbered as they come, parents before children."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.forks: list[Fork] = []
        self._children: dict[tuple[int, int], int] = {}
        self._numbered = 0

    def add(self, tokens: Sequence[int], at: int = BEFORE) -> int:
        """Says tokens after a node, where they are not said already; returns the last one's node."""
        for token in tokens:
            if (at, token) not in self._children:
                self._children[at, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(at)
            at = self._children[at, token]
        return at

    def part(self, continuations: Sequence[Tokens], at: int) -> Fork | int:
        """Says what has to be said to tell several continuations of a node apart, and no more.

        Args:
            continuations: At least one; none of them the beginning of another.
            at: The node that they continue.

        Returns:
            Where they first part; of a single one, its index.
        """
        fork = self._part(list(enumerate(continuations)), at)
        if isinstance(fork, Fork):
            self.forks += fork.all()
        return fork

    def _part(self, ways: Sequence[tuple[int, Tokens]], at: int) -> Fork | int:
        if len(ways) == 1:
            return ways[0][0]
        options: dict[int, list[tuple[int, Tokens]]] = {}
        for index, tokens in ways:
            options.setdefault(tokens[0], []).append((index, tokens[1:]))
        onward = [
            self._part(left, self.add([token], at) if len(left) > 1 else at)
            for token, left in options.items()
        ]
        if len(onward) == 1:
            return onward[0]
        self._numbered += 1
        return Fork(self._numbered - 1, at, tuple(options), tuple(onward))


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Trees of several rows, padded on the right.

    Attributes:
        ids: (rows, nodes) tokens.
        depths: (rows, nodes) how many tokens of the tree come before each.
        visible: (rows, nodes, nodes) whether a node (second axis) sees another (third).
    """

    ids: torch.Tensor
    depths: torch.Tensor
    visible: torch.Tensor


def pad_trees(trees: Sequence[TokenTree], pad: int) -> TreeBatch:
    """Puts trees beside each other; padding sees itself alone."""
    nodes = max(len(tree.tokens) for tree in trees)
    ids = np.full((len(trees), nodes), pad)
    depths = np.zeros((len(trees), nodes), np.int64)
    visible = np.broadcast_to(np.eye(nodes, dtype=bool), (len(trees), nodes, nodes)).copy()
    made: dict[int, int] = {}
    for row, tree in enumerate(trees):
        if (same := made.setdefault(id(tree), row)) != row:
            ids[row], depths[row], visible[row] = ids[same], depths[same], visible[same]
            continue
        ids[row, : len(tree.tokens)] = tree.tokens
        for node, parent in enumerate(tree.parents):
            if parent != BEFORE:
                visible[row, node] |= visible[row, parent]
                depths[row, node] = depths[row, parent] + 1
    return TreeBatch(torch.from_numpy(ids), torch.from_numpy(depths), torch.from_numpy(visible))


def fork_shares(trees: Sequence[TokenTree], logits: torch.Tensor, first: int = 0) -> list[Shares]:
    """How the probability is shared out at each fork, among the tokens that may come next there.

    Args:
        trees: One a row, every fork at one of its nodes.
        logits: (rows, nodes, vocabulary), from a first node on.
        first: Which that is.

    Returns:
        For each tree.
    """
    forks = max(len(tree.forks) for tree in trees)
    width = max((len(fork.tokens) for tree in trees for fork in tree.forks), default=1)
    nodes = torch.zeros(len(trees), max(forks, 1), dtype=torch.long)
    tokens = torch.zeros(len(trees), max(forks, 1), width, dtype=torch.long)
    legal = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, tree in enumerate(trees):
        for fork in tree.forks:
            nodes[row, fork.number] = fork.node - first
            tokens[row, fork.number, : len(fork.tokens)] = torch.tensor(fork.tokens)
            legal[row, fork.number, : len(fork.tokens)] = True
    rows = torch.arange(len(trees), device=logits.device)[:, None, None]
    nodes, tokens, legal = nodes.to(logits.device), tokens.to(logits.device), legal.to(logits.device)
    offered = logits[rows, nodes[..., None], tokens].float()  # (rows, forks, tokens)
    shares = offered.masked_fill(~legal, -torch.inf).softmax(dim=-1).nan_to_num()  # (rows, forks, tokens)
    return list(shares.double().cpu().numpy())


def probabilities(fork: Fork | int, shares: Shares) -> dict[int, float]:
    """Each continuation's probability by its index, given that it is one of them: products of shares."""
    if not isinstance(fork, Fork):
        return {fork: 1.0}
    found = {}
    for lead, share in zip(fork.leads, shares[fork.number], strict=False):
        for index, probability in probabilities(lead, shares).items():
            found[index] = float(share) * probability
    return found


def greedy(fork: Fork | int, shares: Shares) -> int:
    """Index of the continuation that taking the most probable token each time leads to."""
    while isinstance(fork, Fork):
        fork = fork.leads[int(shares[fork.number, : len(fork.leads)].argmax())]
    return fork
