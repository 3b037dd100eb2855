"""Decoding against a grammar in tests: what is asked of every answer, and answers to ask for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from litegpt.answers import GridFinding, canonical_order, join_findings, read_findings
from litegpt.boxes import GRID, GridBox
from litegpt.constraint import Constrained
from litegpt.grammar import Grammar, compile_grammar
from litegpt.registers import MAXIMUM_FINDINGS
from litegpt.tokenizer import phantom_tokenizer
from litegpt.vocabulary import LOCAL_LABELS
from tests.litegpt.tokenizers import byte_level, llama_shaped

LONG = 1600
"""A budget for 40 findings, whatever the tokenizer."""

TOKENIZERS = ("phantom", "digits", "llama")


@cache
def tokenizer(name: str) -> PreTrainedTokenizerBase:
    if name == "phantom":
        return phantom_tokenizer()
    return byte_level(splits_digits=True) if name == "digits" else llama_shaped()


@cache
def grammar(name: str, ordered: bool, budget: int = LONG) -> Grammar:
    return compile_grammar(tokenizer(name), budget=budget, ordered=ordered)


def written(text: str, words: PreTrainedTokenizerBase) -> list[int]:
    """Canonical tokens, with EOS."""
    return [*words.encode(text, add_special_tokens=False), words.eos_token_id]


def run(chooser: Constrained, steps: Sequence[torch.Tensor], budget: int) -> list[list[int]]:
    """Feeds logits until all answers have ended, as a decode loop does."""
    said = []
    for step in range(budget):
        said.append(chooser.choose(steps[step % len(steps)], budget - step).tokens)
        if chooser.ended.all():
            break
    assert chooser.ended.all()
    return torch.stack(said, dim=1).tolist()


def text_of(ids: list[int], words: PreTrainedTokenizerBase) -> str:
    """The answer, once it is certain that it ends as it should and is tokenised canonically."""
    ended = ids[: ids.index(words.eos_token_id)]
    text = str(words.decode(ended))
    assert words.encode(text, add_special_tokens=False) == ended
    return text


def findings_of(text: str, *, ordered: bool) -> list[GridFinding]:
    """What a local answer says, once it is certain that it is well-formed."""
    read = read_findings(text)
    findings = [(label.label, label.box) for label in read.labels if label.box is not None]
    assert read.malformed == 0
    assert join_findings(findings) == text  # nothing said twice, no corner moved
    assert len(findings) <= MAXIMUM_FINDINGS
    if ordered:
        assert canonical_order(findings) == findings
    return findings


def length_of_longest(findings: Sequence[GridFinding], words: PreTrainedTokenizerBase) -> int:
    """Tokens of an answer that says the longest finding there is after these."""
    return _length_of_longest(tuple(findings), words)


@cache
def _length_of_longest(findings: tuple[GridFinding, ...], words: PreTrainedTokenizerBase) -> int:
    label = _longest_label(words, bool(findings))
    return len(written(join_findings([*findings, (label, (10, 10, 100, 100))]), words))


def has_room(findings: Sequence[GridFinding], words: PreTrainedTokenizerBase, budget: int) -> bool:
    """Whether one more finding may be begun: the longest there is would still end within the budget."""
    return len(findings) < MAXIMUM_FINDINGS and length_of_longest(findings, words) <= budget


@cache
def _longest_label(words: PreTrainedTokenizerBase, follows: bool) -> str:
    box = (10, 10, 100, 100)
    before = [(LOCAL_LABELS[0], box)] if follows else []
    return max(LOCAL_LABELS, key=lambda label: len(written(join_findings([*before, (label, box)]), words)))


def boxes() -> st.SearchStrategy[GridBox]:
    def intervals(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(
            lambda pair: (min(pair), max(pair))
        )

    def of(low: int, high: int) -> st.SearchStrategy[GridBox]:
        return st.tuples(intervals(low, high), intervals(low, high)).map(
            lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
        )

    return st.one_of(of(0, GRID), of(GRID - 2, GRID))  # the corner is where the order has its edge cases


def several_findings(most: int = MAXIMUM_FINDINGS) -> st.SearchStrategy[list[GridFinding]]:
    return st.lists(st.tuples(st.sampled_from(LOCAL_LABELS[-3:]), boxes()), max_size=most, unique=True)
