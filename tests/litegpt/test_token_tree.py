"""Token trees: the logits and probabilities of saying each sequence by itself, whatever they share."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from litegpt.decoding import Prefix
from litegpt.token_tree import Fork, Tokens, TokenTree, fork_shares, greedy, pad_trees, probabilities

WORDS = 6


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


# The last token of each is one that no other place has: then none is the beginning of another.
sequences = st.lists(
    st.lists(st.integers(0, WORDS - 2), max_size=4).map(lambda some: (*some, WORDS - 1)),
    min_size=1,
    max_size=8,
    unique=True,
)


def alone(llama: LlamaForCausalLM, before: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """(length + 1, vocabulary) logits before, and after each token, without any tree."""
    said = llama.get_input_embeddings()(torch.tensor([tokens]))
    logits = llama(inputs_embeds=torch.cat([before, said], dim=1)).logits[0]
    return logits[before.shape[1] - 1 :]


@given(rows=st.lists(st.tuples(sequences, sequences), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_probabilities_are_those_of_each_sequence_by_itself(
    llama: LlamaForCausalLM, rows: list[tuple[list[Tokens], list[Tokens]]]
) -> None:
    """Each row: one sequence that is said, another set of ways after it, of an image of its own."""
    generator = torch.Generator().manual_seed(len(rows))
    before = torch.randn(len(rows), 5, 24, generator=generator)
    trees, forks = [], []
    for firsts, ways in rows:
        tree = TokenTree()
        start = tree.add(firsts[0])
        trees.append(tree)
        tree.part(firsts, tree.add((0,)))  # more in the tree than is asked about
        forks.append((tree.part(ways, start), start))
    images = range(len(rows))
    logits = Prefix(llama, before).force(images, pad_trees(trees, pad=0))
    shared = fork_shares(trees, logits)
    for row, (shares, (firsts, ways), (fork, start)) in enumerate(zip(shared, rows, forks, strict=True)):
        after_first = alone(llama, before[row : row + 1], firsts[0])[-1]
        assert torch.allclose(logits[row, start], after_first, atol=1e-5)
        found = probabilities(fork, shares)
        assert sum(found.values()) == pytest.approx(1)
        for index, way in enumerate(ways):
            said = alone(llama, before[row : row + 1], firsts[0] + way)[len(firsts[0]) :]
            expected = 1.0
            for place, token in enumerate(way):
                legal = sorted({other[place] for other in ways if other[:place] == way[:place]})
                expected *= float(said[place, legal].softmax(dim=0)[legal.index(token)])
            assert found[index] == pytest.approx(expected, abs=1e-5)


def test_what_needs_no_telling_apart_is_not_said() -> None:
    """a b | a c | d e f: to tell them apart the logits before, and after "a", are enough."""
    tree = TokenTree()
    start = tree.add((9,))
    fork = tree.part([(1, 2), (1, 3), (4, 5, 6)], start)
    assert tree.tokens == [9, 1] and tree.parents == [-1, start]
    assert isinstance(fork, Fork) and fork.tokens == (1, 4)
    assert [(one.node, one.tokens) for one in fork.all()] == [(start, (1, 4)), (1, (2, 3))]
    assert tree.part([(7, 8)], start) == 0
    assert tree.tokens == [9, 1]


def test_greedy_is_token_by_token_not_the_most_probable_of_all() -> None:
    tree = TokenTree()
    fork = tree.part([(1, 2), (1, 3), (4,)], tree.add((9,)))
    shares = fork_shares([tree], torch.log(torch.tensor([[[1, 0.55, 0.5, 0.5, 0.45], [1, 1, 0.6, 0.4, 1]]])))
    found = probabilities(fork, shares[0])
    assert found == pytest.approx({0: 0.55 * 0.6, 1: 0.55 * 0.4, 2: 0.45})
    assert max(found, key=found.__getitem__) == 2
    assert greedy(fork, shares[0]) == 0


def test_numbers_that_are_not_finite_give_no_probability_instead_of_an_error() -> None:
    tree = TokenTree()
    fork = tree.part([(1,), (2,)], tree.add((0,)))
    shares = fork_shares([tree], torch.tensor([[[0.0, math.nan, 1.0]]]))
    assert sum(probabilities(fork, shares[0]).values()) <= 1
