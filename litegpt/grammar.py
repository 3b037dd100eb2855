"""The grammar of the answers as a table of tokens: what may be said next, without writing anything malformed.

    identify   prefix ┬ No finding. EOS
                      └ <p>label</p> {< x1 >< y1 >< x2 >< y2 ┬ >},<p>label</p> {< … (again)
                                                             └ >}. EOS
    vqa        the sentences that name no diagnosis, one, or several, as a tree

The table is made of how the tokenizer spells whole answers, so only the canonical tokenisation of each
string is in it, whether a number is one token or several digits. What the table alone cannot know (order of
corners, repetitions, the token budget) is decided by ``litegpt.constraint`` from the *decisions* each edge
may lead to: for a coordinate its value, for a label its place in the vocabulary or ``END``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, permutations
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from litegpt.answers import GLOBAL_PREFIX, write_diagnoses
from litegpt.errors import ModelError
from litegpt.prompts import IDENTIFY, VQA
from litegpt.registers import (
    ALWAYS,
    COORDINATES,
    END,
    FREE,
    LABEL,
    X_MAX,
    X_MIN,
    Y_MAX,
    Y_MIN,
    bound,
    digit,
    room,
    settle,
)
from litegpt.spelling import Spelling, Tokens, common_beginning
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING

WORD: Final = 51
"""Bits used of each of a decision's two words; 2 · 51 is more than the 101 steps of the grid."""

ANY: Final = (-1, -1)
"""The words of an edge that is always legal."""

BOX: Final = "box"
"""In ``Grammar.starts``: where a box begins, its label being said."""

DONE: Final = 0
"""The node after the end. Its first edge leads to itself and says padding."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """The answers' automaton as tables; a place without edge has reach 0.

    Attributes:
        tokens: (nodes, edges) the token of each edge.
        targets: (nodes, edges) the node each edge leads to.
        reach: (nodes, edges, 2) words of the decisions that an edge may still lead to.
        slots: (nodes,) what is being decided at each node.
        starts: By the prompt's tag, the node its answer begins at; by ``BOX``, the node a box begins at.
        spelling: What local answers are put together from.
        diagnoses: Every answer to ``vqa`` and its tokens.
        ordered: Whether findings come in the vocabulary's order, then top to bottom, then left to right.
        highest: (nodes, edges) the greatest digit (``litegpt.registers``) that an edge may lead to, or -1.
        onward: (nodes, edges) where a tokenizer writes the end of the last number and what comes after the
            finding as one token: the last label that may come; None if it never does.
        moves: (nodes · edges, 4) what each edge does, at node · edges + edge: its token, its target, and what
            it keeps of ``hand`` and adds to it.
        bounds: By how many tokens remain, (nodes, 5) each node's ``Bound``, and its mask for ``onward``; the
            last is for more than that, too.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    reach: torch.Tensor
    slots: torch.Tensor
    starts: Mapping[str, int]
    spelling: Spelling
    diagnoses: Mapping[str, Tokens]
    ordered: bool
    highest: torch.Tensor
    onward: torch.Tensor | None
    moves: torch.Tensor
    bounds: Sequence[torch.Tensor]

    def opening(self, tag: str) -> tuple[Tokens, int]:
        """The tokens that every answer to a prompt begins with, and the node behind them."""
        tokens, node = [], self.starts[tag]
        while len(ways := self.reach[node].any(dim=-1).nonzero()[:, 0]) == 1:
            tokens.append(int(self.tokens[node, ways[0]]))
            node = int(self.targets[node, ways[0]])
        return tuple(tokens), node


def compile_grammar(
    tokenizer: PreTrainedTokenizerBase, *, budget: int, ordered: bool, device: str = "cpu"
) -> Grammar:
    """Makes the tables for a tokenizer.

    Args:
        tokenizer: With an EOS.
        budget: Longest answer in tokens, EOS included.
        ordered: Whether the model was trained with answers in canonical order.
        device: Where the tables go.

    Raises:
        ModelError: If the budget does not hold even ``No finding``, or if the tokenizer merges numbers with
            what stands around them so that answers cannot be put together token by token.
    """
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise ModelError("the tokenizer has no token for the end of an answer")
    pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else eos

    def written(text: str) -> Tokens:
        return (*tokenizer.encode(text, add_special_tokens=False), eos)

    automaton = _Automaton(pad)
    spelling = Spelling.of(written)
    starts = _identify(automaton, spelling, budget)
    starts[VQA] = automaton.node()
    answers = {answer: written(answer) for answer in _global_answers(ordered)}
    short = {answer: tokens for answer, tokens in answers.items() if len(tokens) <= budget}
    if write_diagnoses(()) not in short:
        raise ModelError(f"an answer of {budget} tokens is too short to say even that there is no finding")
    automaton.tree(starts[VQA], [(answer, None, DONE) for answer in short.values()], FREE)
    return automaton.tables(starts, spelling, short, ordered=ordered, device=device)


def words(decisions: Iterable[int]) -> tuple[int, int]:
    """A set of decisions as two words."""
    both = sum(1 << decision for decision in set(decisions))
    return both & ((1 << WORD) - 1), both >> WORD


@dataclass(slots=True)
class _Edge:
    target: int
    reach: set[int] | None = None
    settles: int = -1
    onward: set[int] | None = None


@dataclass(slots=True)
class _Node:
    slot: int = FREE
    needs: int = 0
    edges: dict[int, _Edge] = field(default_factory=dict)


class _Automaton:
    """Nodes and edges while they are being put together."""

    def __init__(self, pad: int) -> None:
        self.nodes = [_Node(edges={pad: _Edge(DONE)})]

    def node(self, slot: int = FREE, needs: int = 0) -> int:
        self.nodes.append(_Node(slot, needs))
        return len(self.nodes) - 1

    def tree(self, root: int, branches: Sequence[tuple[Tokens, int | None, int]], slot: int) -> None:
        """Hangs token sequences under a node: (tokens, the decision they stand for, the node they lead to).

        A decision below ``END``, or a coordinate, is written into the register by its last token.
        """
        self.nodes[root].slot = slot
        for tokens, decision, target in branches:
            at = root
            for place, token in enumerate(tokens):
                last = place == len(tokens) - 1
                node = self.nodes[at]
                if token not in node.edges:
                    onward = target if last else self.node(slot, max(0, node.needs - 1))
                    node.edges[token] = _Edge(onward, None if decision is None else set())
                edge = node.edges[token]
                if decision is not None and edge.reach is not None:
                    edge.reach.add(decision)
                    if last and not (slot == LABEL and decision == END):
                        edge.settles = decision
                at = edge.target

    def tables(
        self,
        starts: Mapping[str, int],
        spelling: Spelling,
        diagnoses: Mapping[str, Tokens],
        *,
        ordered: bool,
        device: str,
    ) -> Grammar:
        width = max(len(node.edges) for node in self.nodes)
        rows = [
            [_columns(node, *edge, ordered=ordered) for edge in node.edges.items()] for node in self.nodes
        ]
        padded = [row + [_NO_EDGE] * (width - len(row)) for row in rows]
        table = torch.tensor(padded, device=device)  # (nodes, edges, 8)
        slots = torch.tensor([node.slot for node in self.nodes], device=device)
        needs = torch.tensor([node.needs for node in self.nodes], device=device)
        tokens, targets, _, _, highest, onward, _, _ = table.movedim(2, 0).contiguous()
        return Grammar(
            tokens=tokens,
            targets=targets,
            reach=table[..., 2:4].contiguous(),
            slots=slots,
            starts=starts,
            spelling=spelling,
            diagnoses=diagnoses,
            ordered=ordered,
            highest=highest,
            onward=onward if (onward < ALWAYS).any() else None,
            moves=table[..., [0, 1, 6, 7]].flatten(0, 1),
            bounds=_bounds(slots, needs, ordered),
        )


_NO_EDGE: Final = (0, 0, 0, 0, -1, ALWAYS, -1, 0)


def _columns(node: _Node, token: int, edge: _Edge, *, ordered: bool) -> tuple[int, ...]:
    """An edge as a row of the table."""
    reach = ANY if edge.reach is None else words(edge.reach)
    highest, onward = _highest(node.slot, edge.reach), _highest(LABEL, edge.onward)
    move = (-1, 0) if edge.settles < 0 else settle(node.slot, edge.settles, ordered=ordered)
    return token, edge.target, *reach, highest, onward, *move


def _highest(slot: int, decisions: set[int] | None) -> int:
    if decisions is None or (slot == LABEL and END in decisions):
        return ALWAYS
    return max(digit(slot, decision) for decision in decisions)


def _bounds(slots: torch.Tensor, needs: torch.Tensor, ordered: bool) -> list[torch.Tensor]:
    """(nodes, 5) for each number of tokens that may remain, up to enough for anything."""
    by_slot = [[*bound(slot, ordered=ordered), 0] for slot in range(FREE + 1)]
    bounds = torch.tensor(by_slot, device=slots.device)[slots]  # (nodes, 5)
    enough, short = (room(ordered=ordered, enough=enough) for enough in (True, False))
    by_remaining = []
    for remaining in range(int(needs.max()) + 1):
        masks = torch.where(needs > remaining, short, enough)  # (nodes,)
        bounds[:, 4] = masks
        bounds[:, 3] = torch.where(slots == LABEL, masks, bounds[:, 3])
        by_remaining.append(bounds.clone())
    return by_remaining


def _identify(automaton: _Automaton, pieces: Spelling, budget: int) -> dict[str, int]:
    """Adds the local answer; returns where it and where a box begin."""
    if len(pieces.nothing) > budget:
        raise ModelError(f"an answer of {budget} tokens is too short to say even that there is no finding")
    branches = {label: LOCAL_LABELS.index(label) for label in LOCAL_LABELS}
    shared = common_beginning([*pieces.following.values(), pieces.end])
    box = {slot: automaton.node(slot) for slot in COORDINATES}
    longest = pieces.longest_box + len(pieces.end)
    start = automaton.node(LABEL, longest + max(map(len, pieces.first.values())))
    first = [(tokens, branches[label], box[X_MIN]) for label, tokens in pieces.first.items()]
    automaton.tree(start, [*first, (pieces.nothing, END, DONE)], LABEL)
    after = automaton.node(LABEL, longest + max(map(len, pieces.following.values())) - shared)
    following = [(tokens[shared:], branches[label], box[X_MIN]) for label, tokens in pieces.following.items()]
    automaton.tree(after, [*following, (pieces.end[shared:], END, DONE)], LABEL)
    for slot in (X_MIN, Y_MIN, X_MAX):
        _number(automaton, box[slot], pieces.numbers[slot], pieces.between[slot + 1], box[slot + 1], slot)
    if shared or not _goes_on(pieces.numbers[Y_MAX]):
        _number(automaton, box[Y_MAX], pieces.numbers[Y_MAX], pieces.end[:shared], after, Y_MAX)
    else:
        _last_number(automaton, box[Y_MAX], pieces.numbers[Y_MAX], after)
    return {IDENTIFY: start, BOX: box[X_MIN]}


def _number(
    automaton: _Automaton, root: int, numbers: Mapping[int, Tokens], glue: Tokens, target: int, slot: int
) -> None:
    """Adds one coordinate and what always follows it."""
    if _goes_on(numbers):
        # 1 may go on to 10: that it does not is only said by the first token behind it.
        if not glue:
            raise ModelError("the tokenizer writes numbers one after the other; they cannot be told apart")
        numbers = {value: tokens + glue[:1] for value, tokens in numbers.items()}
        glue = glue[1:]
    if glue:
        bridge = automaton.node()
        automaton.tree(bridge, [(glue, None, target)], FREE)
        target = bridge
    automaton.tree(root, [(tokens, value, target) for value, tokens in numbers.items()], slot)


def _last_number(automaton: _Automaton, root: int, numbers: Mapping[int, Tokens], after: int) -> None:
    """Adds the last coordinate where one token says both that it is over and whether a finding follows."""
    first = len(automaton.nodes)
    onward = automaton.nodes[after].edges
    for token, edge in onward.items():
        if edge.settles >= 0:
            raise ModelError(
                f"the tokenizer writes the end of a box and {LOCAL_LABELS[edge.settles]!r} after it as one "
                "token, which the answers' grammar cannot follow;"
                " only unconstrained decoding is possible with it"
            )
        branches = [((*tokens, token), value, edge.target) for value, tokens in numbers.items()]
        automaton.tree(root, branches, Y_MAX)
    for node in (automaton.nodes[root], *automaton.nodes[first:]):
        node.needs = automaton.nodes[after].needs
        for token, edge in node.edges.items():
            if edge.settles >= 0:
                edge.onward = onward[token].reach


def _goes_on(numbers: Mapping[int, Tokens]) -> bool:
    """Whether a number's tokens may be the beginning of another's."""
    written = set(numbers.values())
    return any(tokens[:length] in written for tokens in written for length in range(len(tokens)))


def _global_answers(ordered: bool) -> Iterator[str]:
    """Every answer to ``[vqa]``: 32 in the vocabulary's order, 326 in any order."""
    choose = combinations if ordered else permutations
    diagnoses = [name for name in DIAGNOSES if name != NO_FINDING]
    yield write_diagnoses(())
    for named in chain.from_iterable(choose(diagnoses, count) for count in range(1, len(diagnoses) + 1)):
        yield GLOBAL_PREFIX + ", ".join(named) + "."
