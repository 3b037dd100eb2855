"""The grammar of the answers as a table of tokens: what may be said next, without writing anything malformed.

    identify   prefix ┬ No finding. EOS
                      └ <p>label</p> {< x1 >< y1 >< x2 >< y2 ┬ >},<p>label</p> {< … (again)
                                                             └ >}. EOS
    vqa        the sentences that name no diagnosis, one, or several, as a tree

The table is made by asking the tokenizer how it writes whole answers, so only the canonical tokenisation of
each string is in it, whether a number is one token or several digits. What the table alone cannot know (order
of corners, repetitions, the token budget) is decided by ``litegpt.constraint`` from the *decision* each edge
leads to, a bit in two words of 51: for a coordinate its value, for a label its place in the vocabulary or
``END``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, permutations
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from litegpt.answers import GLOBAL_PREFIX, LOCAL_PREFIX, GridFinding, join_findings
from litegpt.boxes import GRID, GridBox
from litegpt.errors import ModelError
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING

LABEL, X_MIN, Y_MIN, X_MAX, Y_MAX, FREE = range(6)
"""What is being decided at a node: a register of the automaton, or nothing."""

END: Final = len(LOCAL_LABELS)
"""The decision to end the list, or to say that there is no finding."""

WORD: Final = 51
"""Bits used of each of a decision's two words; 2 · 51 is more than the 101 steps of the grid."""

ANY: Final = (-1, -1)
"""The words of an edge that is always legal."""

BOX: Final = "box"
"""In ``Grammar.starts``: where a box begins, its label being said."""

DONE: Final = 0
"""The node after the end."""

_COORDINATES: Final = {
    X_MIN: range(GRID),
    Y_MIN: range(GRID),
    X_MAX: range(1, GRID + 1),
    Y_MAX: range(1, GRID + 1),
}
_EXAMPLE: Final = (12, 34, 56, 78)
_BEFORE: Final = (LOCAL_LABELS[0], (9, 8, 76, 54))

Tokens = tuple[int, ...]
_Writer = Callable[[str], Tokens]


@dataclass(frozen=True, slots=True)
class Grammar:
    """The answers' automaton as tables; a place without edge has reach 0.

    Attributes:
        tokens: (nodes, edges) the token of each edge.
        targets: (nodes, edges) the node each edge leads to.
        reach: (nodes, edges, 2) words of the decisions that an edge may still lead to.
        onward: (nodes, edges) where a tokenizer writes the end of the last number and what comes after the
            finding as one token: the word of the labels that may come, or -1; None if it never does.
        settles: (nodes, edges) the value that an edge writes into its node's register, or -1.
        slots: (nodes,) what is being decided at each node.
        needs: (nodes,) how many tokens one more finding and the end take from here, at most.
        starts: By the prompt's tag, the node its answer begins at; by ``BOX``, the node a box begins at.
        pieces: What local answers are put together from.
        diagnoses: Every answer to ``vqa`` and its tokens.
        ordered: Whether findings come in the vocabulary's order, then top to bottom, then left to right.
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    reach: torch.Tensor
    onward: torch.Tensor | None
    settles: torch.Tensor
    slots: torch.Tensor
    needs: torch.Tensor
    starts: Mapping[str, int]
    pieces: Pieces
    diagnoses: Mapping[str, Tokens]
    ordered: bool

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
    pieces = Pieces.of(written, _nothing(LOCAL_PREFIX))
    starts = _identify(automaton, pieces, budget)
    starts[VQA] = automaton.node()
    answers = {answer: written(answer) for answer in _global_answers(ordered)}
    short = {answer: tokens for answer, tokens in answers.items() if len(tokens) <= budget}
    if _nothing(GLOBAL_PREFIX) not in short:
        raise ModelError(f"an answer of {budget} tokens is too short to say even that there is no finding")
    automaton.tree(starts[VQA], [(answer, None, DONE) for answer in short.values()], FREE)
    return automaton.tables(starts, pieces, short, ordered=ordered, device=device)


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
        pieces: Pieces,
        diagnoses: Mapping[str, Tokens],
        *,
        ordered: bool,
        device: str,
    ) -> Grammar:
        width = max(len(node.edges) for node in self.nodes)
        shape = len(self.nodes), width
        tokens, targets = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        reach = torch.zeros((*shape, 2), dtype=torch.long)
        settles, onward = torch.full(shape, -1), torch.full(shape, -1)
        for number, node in enumerate(self.nodes):
            for place, (token, edge) in enumerate(node.edges.items()):
                tokens[number, place], targets[number, place] = token, edge.target
                reach[number, place] = torch.tensor(ANY if edge.reach is None else words(edge.reach))
                settles[number, place] = edge.settles
                if edge.onward is not None:
                    onward[number, place] = words(edge.onward)[0]
        return Grammar(
            tokens.to(device),
            targets.to(device),
            reach.to(device),
            onward.to(device) if (onward >= 0).any() else None,
            settles.to(device),
            torch.tensor([node.slot for node in self.nodes], device=device),
            torch.tensor([node.needs for node in self.nodes], device=device),
            starts,
            pieces,
            diagnoses,
            ordered,
        )


class Pieces:
    """How a tokenizer writes the local answer, cut at the numbers.

    Attributes:
        first, following: By label, all tokens up to the first number, as the first finding or a later one
            (then from the last number of the finding before it).
        numbers: By coordinate and value.
        between: By coordinate, the tokens before its number (from ``Y_MIN`` on).
        end: From the last number on.
        nothing: The answer that there is no finding.
    """

    def __init__(self, write: _Writer, nothing: str) -> None:
        alone = _Cut(write, ())
        after = _Cut(write, (_BEFORE,))
        spans = alone.spans(LOCAL_LABELS[0])
        example = alone.tokens(LOCAL_LABELS[0], _EXAMPLE)
        self.numbers = {slot: alone.numbers(LOCAL_LABELS[0], slot) for slot in _COORDINATES}
        self.between = {slot: example[spans[slot - 1][1] : spans[slot][0]] for slot in (Y_MIN, X_MAX, Y_MAX)}
        self.end = example[spans[Y_MAX][1] :]
        self.nothing = write(nothing)
        self.first = {label: alone.beginning(label) for label in LOCAL_LABELS}
        before = len(_Cut(write, ()).tokens(*_BEFORE)) - len(self.end)
        self.following = {label: after.beginning(label)[before:] for label in LOCAL_LABELS}

    @classmethod
    def of(cls, write: _Writer, nothing: str) -> Pieces:
        """Cuts, and makes sure that the pieces put together are what the tokenizer writes.

        Raises:
            ModelError: If they are not.
        """
        pieces = cls(write, nothing)
        for findings in _examples():
            if pieces.joined(findings) != write(join_findings(findings)):
                raise ModelError(
                    f"the tokenizer writes {join_findings(findings)!r} in a way that the answers' grammar "
                    "cannot follow; only unconstrained decoding is possible with it"
                )
        return pieces

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
        for slot, value in zip(_COORDINATES, box, strict=True):
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

    def __init__(self, write: _Writer, before: tuple[GridFinding, ...]) -> None:
        self._write = write
        self._before = before

    def tokens(self, label: str, box: tuple[int, int, int, int]) -> Tokens:
        return self._write(join_findings([*self._before, (label, box)]))

    def variants(self, label: str, slot: int) -> dict[int, Tokens]:
        place = slot - X_MIN
        return {
            value: self.tokens(label, (*_EXAMPLE[:place], value, *_EXAMPLE[place + 1 :]))  # type: ignore[arg-type]
            for value in _COORDINATES[slot]
        }

    def spans(self, label: str) -> dict[int, tuple[int, int]]:
        """By coordinate, where the example's number begins and ends."""
        length = len(self.tokens(label, _EXAMPLE))
        spans = {}
        for slot in _COORDINATES:
            variants = list(self.variants(label, slot).values())
            spans[slot] = _common(variants), length - _common([tokens[::-1] for tokens in variants])
        return spans

    def numbers(self, label: str, slot: int) -> dict[int, Tokens]:
        variants = self.variants(label, slot)
        start = _common(list(variants.values()))
        after = _common([tokens[::-1] for tokens in variants.values()])
        return {value: tokens[start : len(tokens) - after] for value, tokens in variants.items()}

    def beginning(self, label: str) -> Tokens:
        variants = list(self.variants(label, X_MIN).values())
        return variants[0][: _common(variants)]


def _identify(automaton: _Automaton, pieces: Pieces, budget: int) -> dict[str, int]:
    """Adds the local answer; returns where it and where a box begin."""
    if len(pieces.nothing) > budget:
        raise ModelError(f"an answer of {budget} tokens is too short to say even that there is no finding")
    branches = {label: LOCAL_LABELS.index(label) for label in LOCAL_LABELS}
    shared = _common([*pieces.following.values(), pieces.end])
    box = {slot: automaton.node(slot) for slot in _COORDINATES}
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


def _examples() -> Iterator[list[GridFinding]]:
    """Every label as the first finding and as the second, every number in every place."""
    for label in LOCAL_LABELS:
        yield [(label, _EXAMPLE), (label, (0, 0, GRID, GRID))]
        yield [(LOCAL_LABELS[-1], (0, 1, 2, 3)), (label, (GRID - 1, GRID - 1, GRID, GRID))]
    for low in range(GRID):
        yield [(LOCAL_LABELS[0], (low, GRID - 1 - low, low + 1, GRID - low)), (LOCAL_LABELS[1], _EXAMPLE)]


def _global_answers(ordered: bool) -> Iterator[str]:
    """Every answer to ``[vqa]``: 32 in the vocabulary's order, 326 in any order."""
    choose = combinations if ordered else permutations
    diagnoses = [name for name in DIAGNOSES if name != NO_FINDING]
    yield _nothing(GLOBAL_PREFIX)
    for named in chain.from_iterable(choose(diagnoses, count) for count in range(1, len(diagnoses) + 1)):
        yield GLOBAL_PREFIX + ", ".join(named) + "."


def _nothing(prefix: str) -> str:
    return f"{prefix}{NO_FINDING}."


def _common(sequences: Sequence[Tokens]) -> int:
    """Length of the longest common beginning."""
    shortest, longest = min(sequences), max(sequences)
    for place, (one, other) in enumerate(zip(shortest, longest, strict=False)):
        if one != other:
            return place
    return min(len(shortest), len(longest))
