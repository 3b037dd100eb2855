"""How probable each label is, whether or not it was said: exact, from the model's own answers.

Diagnoses: all 32 legal answers are teacher-forced as one tree, so each one's probability is exact, and a
diagnosis has that of all answers that name it. No decoding is needed to find the greedy answer, too.

Findings: an ordered answer is a walk through the vocabulary. At each decision (before the first finding, and
after each) the next label is chosen among those not passed yet, and the end. A label's score is taken at the
decision at which it has its turn, given that no label before it was taken there:

    P(label next) / (P(label next) + P(any later label next) + P(end))

All probabilities are shared out among what the grammar allows, as in decoding, but for the length limit. They
only mean this for a model that was trained with answers in canonical order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from litegpt.answers import GridFinding, read_diagnoses
from litegpt.boxes import GRID
from litegpt.decoding import Prefix
from litegpt.grammar import Grammar
from litegpt.spelling import Spelling
from litegpt.token_tree import (
    Fork,
    Shares,
    Tokens,
    TokenTree,
    fork_shares,
    greedy,
    pad_trees,
    probabilities,
)
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

_LOGITS: Final = 2**27
"""How many are held at a time: half a gigabyte of them in float32."""


@dataclass(frozen=True, slots=True)
class DiagnosisScores:
    """What one image's answer to ``[vqa]`` can be.

    Attributes:
        answer: The greedy one.
        by_label: Probability of each of the six diagnoses.
        failed: Whether the model's numbers were NaN or infinite; then the others mean nothing.
    """

    answer: str
    by_label: dict[str, float]
    failed: bool


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The local labels of one image.

    Attributes:
        by_label: Score of each of the 22.
        said: Score of each finding said, in its order; of a label's second finding, that there is another.
        failed: Whether the model's numbers were NaN or infinite; then the others mean nothing.
    """

    by_label: dict[str, float]
    said: tuple[float, ...]
    failed: bool


class Scorer:
    """Scores the answers to both prompts about images."""

    def __init__(self, grammar: Grammar, *, identify: Sequence[int], vqa: Sequence[int], pad: int) -> None:
        """Args:
        grammar: Of answers in canonical order.
        identify, vqa: Token ids after the image in either prompt.
        pad: Token id for padding.
        """
        self._spelling = grammar.spelling
        self._identify = tuple(identify)
        self._pad = pad
        self._answers = list(grammar.diagnoses)
        self._named = [{read.label for read in read_diagnoses(answer).labels} for answer in self._answers]
        self._diagnoses = TokenTree()
        self._fork = self._diagnoses.part(list(grammar.diagnoses.values()), at=self._diagnoses.add(vqa))

    def diagnoses(self, prefix: Prefix) -> list[DiagnosisScores]:
        """Scores the diagnoses of all images."""
        scores = []
        for shares, failed in self._shares(prefix, [self._diagnoses] * prefix.images):
            likely = probabilities(self._fork, shares)
            by_label = {
                name: sum(likely[index] for index, named in enumerate(self._named) if name in named)
                for name in DIAGNOSES
            }
            scores.append(DiagnosisScores(self._answers[greedy(self._fork, shares)], by_label, failed))
        return scores

    def labels(self, prefix: Prefix, said: Sequence[Sequence[GridFinding]]) -> list[LabelScores]:
        """Scores the local labels of all images.

        Args:
            prefix: The images.
            said: The findings said of each, in canonical order.
        """
        walks = [_Walk(self._spelling, self._identify, findings) for findings in said]
        shares = self._shares(prefix, [walk.tree for walk in walks])
        return [walk.scores(*each) for walk, each in zip(walks, shares, strict=True)]

    def _shares(self, prefix: Prefix, trees: Sequence[TokenTree]) -> Iterator[tuple[Shares, bool]]:
        """How each image's tree shares its probability out, and whether its numbers failed."""
        first = min(fork.node for tree in trees for fork in tree.forks)
        nodes = max(len(tree.tokens) for tree in trees) - first
        rows = max(1, _LOGITS // (nodes * prefix.vocabulary))
        for start in range(0, len(trees), rows):
            some = trees[start : start + rows]
            images = range(start, start + len(some))
            logits = prefix.force(images, pad_trees(some, self._pad), first)  # (some, nodes, vocabulary)
            failed = ~torch.isfinite(logits).all(dim=-1).all(dim=-1)  # (some,)
            yield from zip(fork_shares(some, logits, first), failed.tolist(), strict=True)


class _Walk:
    """One image's local answer, with the ways that lead off it at each decision."""

    def __init__(self, spelling: Spelling, prompt: Tokens, findings: Sequence[GridFinding]) -> None:
        self.tree = TokenTree()
        self._findings = findings
        self._decisions: list[tuple[Sequence[str], Fork | int]] = []
        at = self.tree.add(prompt)
        for number in range(len(findings) + 1):
            names = spelling.following if number else spelling.first
            end = spelling.end if number else spelling.nothing
            legal = _labels_after(findings[number - 1]) if number else LOCAL_LABELS
            fork = self.tree.part([*(names[label] for label in legal), end], at)
            self._decisions.append((legal, fork))
            if number < len(findings):
                label, box = findings[number]
                at = self.tree.add(names[label] + spelling.box(box), at)

    def scores(self, shares: Shares, failed: bool) -> LabelScores:
        """Scores of all labels, from how the tree shares its probability out."""
        by_label: dict[str, float] = {}
        said = []
        for number, (legal, fork) in enumerate(self._decisions):
            likely = probabilities(fork, shares)
            turn = {label: _given_turn(likely, index) for index, label in enumerate(legal)}
            here = self._findings[number][0] if number < len(self._findings) else None
            if here is not None:
                said.append(turn[here])
            for label, score in turn.items():
                by_label.setdefault(label, score)  # of a label said before, this is of its repetition
                if label == here:
                    break
        return LabelScores(by_label, tuple(said), failed)


def _labels_after(finding: GridFinding) -> Sequence[str]:
    """The labels that may follow a finding: its own, unless there is no later box, and all after it."""
    label, box = finding
    exhausted = box == (GRID - 1, GRID - 1, GRID, GRID)
    return LOCAL_LABELS[LOCAL_LABELS.index(label) + exhausted :]


def _given_turn(likely: Mapping[int, float], index: int) -> float:
    """A continuation's probability, given that none before it was taken."""
    left = sum(probability for other, probability in likely.items() if other >= index)
    return likely[index] / left if left > 0 else 0.0
