"""Vocabularies of every kind: the grammar follows each, or says that it cannot."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaTokenizer, PreTrainedTokenizerBase

from litegpt.answers import GridFinding, canonical_order, join_findings
from litegpt.constraint import constrained
from litegpt.errors import ModelError
from litegpt.grammar import compile_grammar
from litegpt.prompts import IDENTIFY
from litegpt.vocabulary import LOCAL_LABELS
from tests.litegpt.answering import findings_of, run, several_findings, text_of, tokenizer, written
from tests.litegpt.tokenizers import LLAMA_PIECES, byte_level, llama_shaped, llama_vocabulary

BUDGET = 250
"""For six findings in any of these vocabularies."""

FOLLOWED = {
    "nothing merged": (),
    "as Llama-2's": LLAMA_PIECES,
    "the end of a box": (">}", ">},", ">}."),
    "the end of a box and of the answer": (">}.",),
    "the end of a box and the next finding": ("><", ">},<p>", ">}."),
    "from the end of a box into a name": (">},<p>ILD",),
    "a comma with what follows": (">}", ",<", "},"),
    "from the comma to the next box": ("},<p>ILD</p>▁{<",),
    "a whole beginning": ("▁<p>ILD</p>▁{<", "},<p>ILD</p>▁{<"),
    "into names": ("p>A", "p>I", "s</"),
    "some numbers": ("10", "100", "12", "99", "00"),
    "a digit and what follows": ("1><", "0>"),
    "a digit and what comes before": ("<1",),
}

REFUSED = {
    "two numbers": ("38><4",),
    "one digit after the separator": ("><1",),
    "the last digit and the end": ("8>}.",),
    "the last digit and the next name": ("0>},<p>ILD",),
    "a name and a digit": ("<p>ILD</p>▁{<1",),
    "the end of a box and all of the next name": (">},<p>ILD</p>▁{<", ">}."),
}


def assert_follows(words: PreTrainedTokenizerBase, ordered: bool, findings: list[GridFinding]) -> None:
    """What is said is canonical and reads back, and ``findings`` can be said.

    Raises:
        ModelError: If the vocabulary is refused.
    """
    tables = compile_grammar(words, budget=BUDGET, ordered=ordered)
    generator = torch.Generator().manual_seed(0)
    taste = 2 * torch.randn(6, len(words), generator=generator)
    steps = [taste + torch.randn(6, len(words), generator=generator) for _ in range(53)]
    for ids in run(constrained(tables, [IDENTIFY], 6), steps, BUDGET):
        findings_of(text_of(ids, words), ordered=ordered)
    wanted = written(join_findings(canonical_order(findings) if ordered else findings), words)
    forced = [torch.nn.functional.one_hot(torch.tensor([token]), len(words)).float() for token in wanted]
    assert run(constrained(tables, [IDENTIFY], 1), forced, BUDGET) == [wanted]


@pytest.mark.parametrize("pieces", FOLLOWED.values(), ids=FOLLOWED.keys())
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_vocabulary_that_keeps_numbers_apart_is_followed(pieces: tuple[str, ...], ordered: bool) -> None:
    findings = [("ILD", (1, 10, 12, 100)), ("ILD", (38, 10, 40, 99)), (LOCAL_LABELS[-1], (99, 99, 100, 100))]
    assert_follows(llama_shaped(pieces), ordered, findings)


@pytest.mark.parametrize("pieces", REFUSED.values(), ids=REFUSED.keys())
def test_a_vocabulary_that_joins_what_must_be_told_apart_is_refused(pieces: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"cannot follow|told apart") as error:
        compile_grammar(llama_shaped(pieces), budget=BUDGET, ordered=True)
    assert len(str(error.value)) < 300


def test_a_tokenizer_that_merges_numbers_with_what_follows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"cannot follow|told apart"):
        compile_grammar(byte_level(splits_digits=False), budget=BUDGET, ordered=True)


ANSWER = join_findings([("ILD", (1, 20, 38, 100)), ("Nodule/Mass", (0, 3, 4, 56))]).replace(" ", "▁")
START = ANSWER.index("▁<p>")


@st.composite
def vocabularies(draw: st.DrawFn) -> list[str]:
    """Pieces cut at random from an answer, most of them without digits."""
    pieces = []
    for start in draw(st.lists(st.integers(START, len(ANSWER) - 2), min_size=1, max_size=8)):
        piece = ANSWER[start : start + draw(st.sampled_from([2, 2, 3, 4, 8, 20]))]
        if draw(st.integers(0, 4)):
            piece = max(re.findall(r"\D+", piece), key=len, default="")
        pieces.append(piece)
    return [piece for piece in pieces if len(piece) > 1]


@given(pieces=vocabularies(), ordered=st.booleans(), findings=several_findings(6))
@settings(max_examples=10, deadline=None)
def test_any_vocabulary_is_followed_or_refused(
    pieces: list[str], ordered: bool, findings: list[GridFinding]
) -> None:
    try:
        assert_follows(llama_shaped(pieces), ordered, findings)
    except ModelError as error:
        assert "unconstrained decoding" in str(error) or "told apart" in str(error)


@given(findings=several_findings(5))
@settings(max_examples=20, deadline=None)
def test_the_tokenizer_shaped_as_llamas_is_one(findings: list[GridFinding]) -> None:
    """transformers' own class, given the same vocabulary, writes and reads the same."""
    vocabulary, merges = llama_vocabulary(LLAMA_PIECES)
    llama = LlamaTokenizer(vocab=vocabulary, merges=merges)
    text = join_findings(findings)
    ids = tokenizer("llama").encode(text, add_special_tokens=False)
    assert llama.encode(text, add_special_tokens=False) == ids
    for count in range(1, len(ids) + 1):
        assert llama.decode(ids[:count]) == tokenizer("llama").decode(ids[:count])
