"""The answers' grammar: whatever the model prefers, its answer reads back; all that is legal may be said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from litegpt.answers import (
    GridFinding,
    canonical_order,
    join_findings,
    read_diagnoses,
    read_findings,
    write_diagnoses,
    write_findings,
)
from litegpt.boxes import GRID
from litegpt.constraint import Constrained, constrained
from litegpt.errors import ModelError
from litegpt.grammar import Grammar, compile_grammar
from litegpt.prompts import IDENTIFY, VQA
from litegpt.registers import MAXIMUM_FINDINGS
from litegpt.tokenizer import phantom_tokenizer
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

LONG = 1400


def byte_level(*, splits_digits: bool) -> PreTrainedTokenizerBase:
    """Byte-level BPE without tokens of its own for boxes; with digits apart as Llama-2's, or all merged."""
    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True)] if splits_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits_digits)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [write_findings([(label, (1, 20, 30, 100)), (label, (2, 4, 56, 78))]) for label in LOCAL_LABELS]
    corpus += [write_diagnoses([name]) for name in DIAGNOSES[:-1]]
    trainer = trainers.BpeTrainer(
        vocab_size=400 if splits_digits else 3000,
        min_frequency=1,
        show_progress=False,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@cache
def tokenizer(name: str) -> PreTrainedTokenizerBase:
    return phantom_tokenizer() if name == "phantom" else byte_level(splits_digits=True)


@cache
def grammar(name: str, ordered: bool, budget: int) -> Grammar:
    return compile_grammar(tokenizer(name), budget=budget, ordered=ordered)


both_tokenizers = pytest.mark.parametrize("name", ["phantom", "digits"])
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


def run(chooser: Constrained, steps: Sequence[torch.Tensor], budget: int) -> list[list[int]]:
    """Feeds logits until all answers have ended, as a decode loop does."""
    said = []
    for step in range(budget):
        said.append(chooser.choose(steps[step % len(steps)], budget - step).tokens)
        if chooser.ended.all():
            break
    assert chooser.ended.all()
    return torch.stack(said, dim=1).tolist()


def text_of(ids: list[int], name: str) -> str:
    """The answer, once it is certain that it ends as it should and is tokenised canonically."""
    ended = ids[: ids.index(tokenizer(name).eos_token_id)]
    text = str(tokenizer(name).decode(ended))
    assert tokenizer(name).encode(text, add_special_tokens=False) == ended
    return text


def assert_readable(text: str, *, ordered: bool) -> int:
    read = read_findings(text)
    findings = [(label.label, label.box) for label in read.labels if label.box is not None]
    assert read.malformed == 0
    assert join_findings(findings) == text  # nothing said twice, no corner moved
    assert len(findings) <= MAXIMUM_FINDINGS
    if ordered:
        assert canonical_order(findings) == findings
    return len(findings)


@both_tokenizers
@both_orders
@pytest.mark.parametrize("budget", [60, 90, 130, LONG])
def test_random_logits_give_answers_that_read_back(name: str, ordered: bool, budget: int) -> None:
    vocabulary = len(tokenizer(name))
    generator = torch.Generator().manual_seed(budget)
    steps = [torch.randn(64, vocabulary, generator=generator) for _ in range(97)]
    chooser = constrained(grammar(name, ordered, budget), [IDENTIFY, VQA], 32)
    answers = run(chooser, steps, budget)
    for ids in answers[:32]:
        assert_readable(text_of(ids, name), ordered=ordered)
    for ids in answers[32:]:
        read = read_diagnoses(text_of(ids, name))
        assert read.malformed == 0 and read.labels


@both_tokenizers
@both_orders
@given(seed=st.integers(0, 2**32 - 1), high=st.booleans(), budget=st.sampled_from([90, 200, LONG]))
@settings(max_examples=4, deadline=None)
def test_a_model_that_wants_to_repeat_itself_without_end_cannot(
    name: str, ordered: bool, seed: int, high: bool, budget: int
) -> None:
    """The same preferences at every step, and never to end; or always for the lower right corner."""
    words = tokenizer(name)
    logits = torch.randn(8, len(words), generator=torch.Generator().manual_seed(seed))
    ends = [token for token in range(len(words)) if {".", "N"} & set(words.decode([token]))]
    logits[:, ends] = -99.0
    if high:
        for number in range(GRID + 1):
            logits[:, words.encode(f"<{number}>", add_special_tokens=False)] += number / 5
    answers = run(constrained(grammar(name, ordered, budget), [IDENTIFY], 8), [logits], budget)
    counts = {assert_readable(text_of(ids, name), ordered=ordered) for ids in answers}
    if budget == LONG and not ordered:
        assert max(counts) == MAXIMUM_FINDINGS


def boxes() -> st.SearchStrategy[tuple[int, int, int, int]]:
    def intervals(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(
            lambda pair: (min(pair), max(pair))
        )

    def of(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
        return st.tuples(intervals(low, high), intervals(low, high)).map(
            lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
        )

    return st.one_of(of(0, GRID), of(GRID - 2, GRID))  # the corner is where the order has its edge cases


findings_strategy = st.lists(
    st.tuples(st.sampled_from(LOCAL_LABELS[-3:]), boxes()), max_size=MAXIMUM_FINDINGS, unique=True
)


@both_tokenizers
@both_orders
@given(findings=findings_strategy)
@settings(max_examples=20, deadline=None)
def test_every_legal_answer_can_be_given(name: str, ordered: bool, findings: list[GridFinding]) -> None:
    text = join_findings(canonical_order(findings) if ordered else findings)
    wanted = [*tokenizer(name).encode(text, add_special_tokens=False), tokenizer(name).eos_token_id]
    steps = [torch.nn.functional.one_hot(torch.tensor([token]), len(tokenizer(name))) for token in wanted]
    chooser = constrained(grammar(name, ordered, LONG), [IDENTIFY], 1)
    (ids,) = run(chooser, [step.float() for step in steps], LONG)
    assert ids == wanted


@both_tokenizers
def test_the_legal_diagnoses_are_32_in_order_and_326_without(name: str) -> None:
    for ordered, expected in ((True, 32), (False, 326)):
        tables = grammar(name, ordered, LONG)

        def leaves(node: int, tables: Grammar = tables) -> int:
            ways = [
                int(target)
                for target, reach in zip(tables.targets[node], tables.reach[node], strict=True)
                if reach.any()
            ]
            return sum(1 if target == 0 else leaves(target) for target in ways)

        assert leaves(tables.starts[VQA]) == expected


def test_logits_that_are_not_finite_end_that_answer_alone() -> None:
    budget = 90
    steps = [torch.randn(3, len(tokenizer("phantom")), generator=torch.Generator().manual_seed(5))] * 4
    alone = run(constrained(grammar("phantom", True, budget), [IDENTIFY], 3), steps, budget)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        chooser = constrained(grammar("phantom", True, budget), [IDENTIFY], 3)
        broken = [step.clone() for step in steps]
        broken[2][1, 17] = wrong
        tokens, failures = [], []
        for step in range(budget):
            choice = chooser.choose(broken[step % 4], budget - step)
            tokens.append(choice.tokens)
            failures.append(choice.failed.tolist())
            if chooser.ended.all():
                break
        assert [failed for failed in failures if any(failed)] == [[False, True, False]]
        together = torch.stack(tokens, dim=1).tolist()
        for row in (0, 2):
            eos = tokenizer("phantom").eos_token_id
            assert together[row][: together[row].index(eos)] == alone[row][: alone[row].index(eos)]


def test_probabilities_are_among_what_is_legal() -> None:
    """Where two things may be said, theirs add up to one; where only one may, it is certain."""
    words = tokenizer("phantom")
    chooser = constrained(grammar("phantom", True, 40), [IDENTIFY], 1)
    logits = torch.zeros(1, len(words))
    logits[0, words.convert_tokens_to_ids("Ġ")] = 1.0  # begins a finding; the other way is "Ġ" + "No"
    found = [float(chooser.choose(logits, 40 - step).probabilities[0]) for step in range(9)]
    assert found[:7] == [1.0] * 7  # Local diseases of this chest radiograph are
    assert found[7] == pytest.approx(torch.e / (torch.e + 1))
    assert found[8] == 1.0  # <p>


def test_a_budget_too_short_for_any_answer_is_refused() -> None:
    with pytest.raises(ModelError, match="too short to say even that there is no finding"):
        compile_grammar(tokenizer("phantom"), budget=5, ordered=True)


def test_a_tokenizer_that_merges_numbers_with_what_follows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"grammar cannot follow|told apart"):
        compile_grammar(byte_level(splits_digits=False), budget=LONG, ordered=True)
