"""The legal next tokens are, step by step, those of legal answers that begin so, found by writing answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.answers import GLOBAL_PREFIX, GridFinding, canonical_order, join_findings
from litegpt.boxes import GRID, GridBox
from litegpt.constraint import Constrained, constrained
from litegpt.grammar import compile_grammar
from litegpt.prompts import IDENTIFY, VQA
from litegpt.registers import MAXIMUM_FINDINGS
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS
from tests.litegpt.answering import (
    LONG,
    TOKENIZERS,
    grammar,
    has_room,
    length_of_longest,
    several_findings,
    tokenizer,
    written,
)

both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


class Oracle:
    """Knows what a legal answer is, and tries enough of them to find each token that may be next."""

    def __init__(self, name: str, ordered: bool, budget: int) -> None:
        self._words, self._ordered, self._budget = tokenizer(name), ordered, budget

    def next_tokens(self, prefix: list[int]) -> set[int]:
        answers = [
            written(join_findings(findings), self._words)
            for findings in self._answers(str(self._words.decode(prefix)))
            if self._is_legal(findings)
        ]
        return {answer[len(prefix)] for answer in answers if answer[: len(prefix)] == prefix}

    def _is_legal(self, findings: Sequence[GridFinding]) -> bool:
        if self._ordered and canonical_order(findings) != findings:
            return False
        begun = (findings[:count] for count in range(len(findings)))
        return len(set(findings)) == len(findings) and all(
            has_room(before, self._words, self._budget) for before in begun
        )

    def _answers(self, text: str) -> Iterator[list[GridFinding]]:
        said, rest = [], text
        for match in re.finditer(r"<p>([^<]+)</p> \{<(\d+)><(\d+)><(\d+)><(\d+)>", text):
            x_min, y_min, x_max, y_max = map(int, match.groups()[1:])
            said.append((match[1], (x_min, y_min, x_max, y_max)))
            rest = text[match.end() :]
        yield said
        for finding in self._findings(rest, said):
            yield [*said, finding]
            if rest.endswith(f"<{finding[1][3]}"):
                # One token may end this finding and begin the next.
                following = (last_unsaid(label, [*said, finding]) for label in LOCAL_LABELS)
                yield from ([*said, finding, after] for after in following if after)

    def _findings(self, rest: str, said: list[GridFinding]) -> Iterator[GridFinding]:
        """One for each label, or once that is said, for each value of the number that is next."""
        label = re.search(r"<p>([^<]+)</p>", rest)
        if label is None:
            found = [last_unsaid(name, said) for name in LOCAL_LABELS]
        else:
            numbers = re.findall(r"<(\d+)(>?)", rest)
            decided = [int(number) for number, closed in numbers if closed]
            begun = "".join(number for number, closed in numbers if not closed)
            values = [value for value in range(GRID + 1) if str(value).startswith(begun)]
            found = [last_unsaid(label[1], said, *decided, value) for value in values]
        yield from (finding for finding in found if finding)


def last_unsaid(label: str, said: list[GridFinding], *beginning: int) -> GridFinding | None:
    """The last in canonical order of those that begin so: if any may follow all that is said, it may."""
    findings = ((label, box) for box in boxes_from_the_last(*beginning))
    return next((finding for finding in findings if finding not in said), None)


def boxes_from_the_last(*beginning: int) -> Iterator[GridBox]:
    def values(place: int, above: int = -1) -> list[int]:
        return [value for value in beginning[place : place + 1] or range(GRID, -1, -1) if value > above]

    for y_min in values(1):
        below = values(3, above=y_min)
        for x_min in values(0) if below else []:
            for x_max in values(2, above=x_min):
                yield from ((x_min, y_min, x_max, y_max) for y_max in below)


def legal(chooser: Constrained, remaining: int) -> set[int]:
    tokens, barred = chooser.offered(remaining)
    return set(tokens[~barred].tolist())


def follow(name: str, ordered: bool, findings: list[GridFinding], budget: int, start: int) -> None:
    """Says these findings, and compares at each step after those before ``start``."""
    words, oracle = tokenizer(name), Oracle(name, ordered, budget)
    wanted = written(join_findings(findings), words)
    first = len(written(join_findings(findings[:start]), words)) - 4 if start else 0
    chooser = constrained(grammar(name, ordered), [IDENTIFY], 1)
    for step, token in enumerate(wanted):
        if step >= first:
            assert legal(chooser, budget - step) == oracle.next_tokens(wanted[:step])
        logits = torch.zeros(1, len(words))
        logits[0, token] = 1.0
        assert chooser.choose(logits, budget - step).tokens.tolist() == [token]


CORNER = [
    (label, (x_min, y_min, x_max, y_max))
    for label in LOCAL_LABELS[-2:]
    for x_min, x_max in combinations(range(GRID - 2, GRID + 1), 2)
    for y_min, y_max in combinations(range(GRID - 2, GRID + 1), 2)
]


@pytest.mark.parametrize("name", TOKENIZERS)
@both_orders
@given(
    findings=several_findings(3) | st.lists(st.sampled_from(CORNER), min_size=2, max_size=10, unique=True),
    spare=st.sampled_from([0, 1, 2, 7, LONG]),
)
@settings(max_examples=12, deadline=None)
def test_at_each_step_of_a_finding(name: str, ordered: bool, findings: list[GridFinding], spare: int) -> None:
    if ordered:
        findings = canonical_order(findings)
    words = tokenizer(name)
    begun = [length_of_longest(findings[:count], words) for count in range(len(findings))]
    least = max([len(written(join_findings([]), words)), *begun])
    follow(name, ordered, findings, least + spare, start=max(0, len(findings) - 1))


@pytest.mark.parametrize("name", TOKENIZERS)
@both_orders
def test_at_each_step_of_the_last_box_there_is(name: str, ordered: bool) -> None:
    """In order, the next label or the end must follow; one token may say so while the number ends."""
    corner = (GRID - 1, GRID - 1, GRID, GRID)
    for label in LOCAL_LABELS[-2:]:
        follow(name, ordered, [(LOCAL_LABELS[0], (1, 2, 3, 4)), (label, corner)], LONG, start=1)


@pytest.mark.parametrize("name", ["phantom", "digits"])
@both_orders
def test_at_each_step_of_the_last_finding_that_may_be_said(name: str, ordered: bool) -> None:
    findings = [(label, (x, 98, 100, 99)) for label in LOCAL_LABELS[:20] for x in (96, 97)]
    assert len(findings) == MAXIMUM_FINDINGS
    follow(name, ordered, findings, LONG, start=len(findings) - 1)


@pytest.mark.parametrize("name", TOKENIZERS)
@both_orders
@pytest.mark.parametrize("budget", [20, LONG])
def test_at_each_step_of_every_diagnosis(name: str, ordered: bool, budget: int) -> None:
    words, choose = tokenizer(name), combinations if ordered else permutations
    named = [", ".join(names) for count in range(1, 6) for names in choose(DIAGNOSES[:-1], count)]
    answers = [written(GLOBAL_PREFIX + names + ".", words) for names in (DIAGNOSES[-1], *named)]
    answers = [answer for answer in answers if len(answer) <= budget]
    tables = compile_grammar(words, budget=budget, ordered=ordered)
    for wanted in answers[:: 1 + len(answers) // 8]:
        chooser = constrained(tables, [VQA], 1)
        for step, token in enumerate(wanted):
            expected = {answer[step] for answer in answers if answer[:step] == wanted[:step]}
            assert legal(chooser, budget - step) == expected
            logits = torch.zeros(1, len(words))
            logits[0, token] = 1.0
            chooser.choose(logits, budget - step)
