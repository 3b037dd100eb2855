"""The answers' grammar: whatever the model prefers, its answer reads back; all that is legal may be said."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.answers import GridFinding, canonical_order, join_findings, read_diagnoses
from litegpt.boxes import GRID
from litegpt.constraint import Unconstrained, constrained
from litegpt.errors import ModelError
from litegpt.grammar import Grammar, compile_grammar
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import LOCAL_LABELS
from tests.litegpt.answering import (
    LONG,
    TOKENIZERS,
    findings_of,
    grammar,
    has_room,
    run,
    several_findings,
    text_of,
    tokenizer,
    written,
)

all_tokenizers = pytest.mark.parametrize("name", TOKENIZERS)
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


@all_tokenizers
@both_orders
@pytest.mark.parametrize("budget", [60, 90, 130, LONG])
def test_random_logits_give_answers_that_read_back(name: str, ordered: bool, budget: int) -> None:
    words = tokenizer(name)
    generator = torch.Generator().manual_seed(budget)
    steps = [torch.randn(64, len(words), generator=generator) for _ in range(97)]
    chooser = constrained(grammar(name, ordered, budget), [IDENTIFY, VQA], 32)
    answers = run(chooser, steps, budget)
    for ids in answers[:32]:
        findings_of(text_of(ids, words), ordered=ordered)
    for ids in answers[32:]:
        read = read_diagnoses(text_of(ids, words))
        assert read.malformed == 0 and read.labels


@all_tokenizers
@both_orders
@given(seed=st.integers(0, 2**32 - 1), high=st.booleans(), budget=st.sampled_from([90, 200, LONG]))
@settings(max_examples=3, deadline=None)
def test_a_model_that_wants_to_repeat_itself_without_end_must_stop_where_no_more_may_be_said(
    name: str, ordered: bool, seed: int, high: bool, budget: int
) -> None:
    """The same preferences at every step, and never to end; or always for the lower right corner."""
    words = tokenizer(name)
    logits = torch.randn(8, len(words), generator=torch.Generator().manual_seed(seed))
    if high:
        for number in range(GRID + 1):
            logits[:, words.encode(f"<{number}>", add_special_tokens=False)] += number / 5
    example = (LOCAL_LABELS[0], (12, 34, 56, 78))
    for ending, going_on in (([], [example]), ([example], [example, example])):
        logits[:, first_difference(ending, going_on, name)] = -99.0
    answers = run(constrained(grammar(name, ordered), [IDENTIFY], 8), [logits], budget)
    for ids in answers:
        findings = findings_of(text_of(ids, words), ordered=ordered)
        nothing_after = ordered and findings[-1:] == [(LOCAL_LABELS[-1], (99, 99, 100, 100))]
        assert nothing_after or not has_room(findings, words, budget)


def first_difference(ending: list[GridFinding], going_on: list[GridFinding], name: str) -> int:
    """The token of the first answer that says that it ends and does not go on like the second."""
    first, second = (written(join_findings(answer), tokenizer(name)) for answer in (ending, going_on))
    return next(one for one, other in zip(first, second, strict=False) if one != other)


@all_tokenizers
@both_orders
@given(findings=several_findings())
@settings(max_examples=20, deadline=None)
def test_every_legal_answer_can_be_given(name: str, ordered: bool, findings: list[GridFinding]) -> None:
    words = tokenizer(name)
    wanted = written(join_findings(canonical_order(findings) if ordered else findings), words)
    steps = [torch.nn.functional.one_hot(torch.tensor([token]), len(words)) for token in wanted]
    chooser = constrained(grammar(name, ordered), [IDENTIFY], 1)
    (ids,) = run(chooser, [step.float() for step in steps], LONG)
    assert ids == wanted


@all_tokenizers
def test_the_legal_diagnoses_are_32_in_order_and_326_without(name: str) -> None:
    for ordered, expected in ((True, 32), (False, 326)):
        tables = grammar(name, ordered)

        def leaves(node: int, tables: Grammar = tables) -> int:
            ways = [
                int(target)
                for target, reach in zip(tables.targets[node], tables.reach[node], strict=True)
                if reach.any()
            ]
            return sum(1 if target == 0 else leaves(target) for target in ways)

        assert leaves(tables.starts[VQA]) == expected


def test_logits_that_are_not_finite_end_that_answer_alone() -> None:
    budget, words = 90, tokenizer("phantom")
    eos = words.eos_token_id
    steps = [torch.randn(3, len(words), generator=torch.Generator().manual_seed(5))] * 4
    alone = run(constrained(grammar("phantom", True), [IDENTIFY], 3), steps, budget)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        chooser = constrained(grammar("phantom", True), [IDENTIFY], 3)
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
        assert together[1][:2] == alone[1][:2] and set(together[1][2:]) == {words.pad_token_id}
        for row in (0, 2):
            assert together[row][: together[row].index(eos)] == alone[row][: alone[row].index(eos)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("free", [False, True], ids=["constrained", "unconstrained"])
def test_nothing_but_what_is_not_finite_fails(dtype: torch.dtype, free: bool) -> None:
    """Also not logits whose sum their own type does not hold; but infinities that could cancel out."""
    words = tokenizer("phantom")
    logits = torch.randn(7, len(words), generator=torch.Generator().manual_seed(1)).to(dtype)
    logits[0] = 60000.0
    logits[1] = -60000.0
    logits[2, 3], logits[2, 4] = torch.inf, -torch.inf
    logits[3, -1] = torch.nan
    logits[4, 0] = -torch.inf
    logits[5] = torch.inf
    expected = [False, False, True, True, True, True, False]
    tables = grammar("phantom", True)
    eos, pad = int(words.eos_token_id or 0), int(words.pad_token_id or 0)
    chooser = Unconstrained(7, eos=eos, pad=pad, device="cpu") if free else constrained(tables, [IDENTIFY], 7)
    choice = chooser.choose(logits, LONG)
    assert choice.failed.tolist() == expected
    assert chooser.ended.tolist() == expected
    assert (choice.tokens[choice.failed] == pad).all()


@all_tokenizers
@both_orders
def test_rows_that_are_dropped_make_no_difference_to_the_others(name: str, ordered: bool) -> None:
    """The others know what they have said."""
    words, kept = tokenizer(name), torch.tensor([1, 2, 5])
    generator = torch.Generator().manual_seed(3)
    steps = [torch.randn(6, len(words), generator=generator) for _ in range(60)]
    for step in steps:
        step[:, [first_difference([], [(LOCAL_LABELS[0], (1, 2, 3, 4))], name)]] = -99.0
    whole = constrained(grammar(name, ordered), [IDENTIFY], 6)
    thinned = constrained(grammar(name, ordered), [IDENTIFY], 6)
    for number, step in enumerate(steps):
        if number == 40:
            thinned.keep(kept)
        expected = whole.choose(step, LONG - number)
        choice = thinned.choose(step if number < 40 else step[kept], LONG - number)
        assert torch.equal(choice.tokens, expected.tokens if number < 40 else expected.tokens[kept])


def test_probabilities_are_among_what_is_legal() -> None:
    """Where two things may be said, theirs add up to one; where only one may, it is certain."""
    words = tokenizer("phantom")
    chooser = constrained(grammar("phantom", True), [IDENTIFY], 1)
    logits = torch.zeros(1, len(words))
    logits[0, words.convert_tokens_to_ids("Ġ")] = 1.0  # begins a finding; the other way is "Ġ" + "No"
    found = [float(chooser.choose(logits, 40 - step).probabilities[0]) for step in range(9)]
    assert found[:7] == [1.0] * 7  # Local diseases of this chest radiograph are
    assert found[7] == pytest.approx(torch.e / (torch.e + 1))
    assert found[8] == 1.0  # <p>


def test_a_budget_too_short_for_any_answer_is_refused() -> None:
    with pytest.raises(ModelError, match="too short to say even that there is no finding"):
        compile_grammar(tokenizer("phantom"), budget=5, ordered=True)
