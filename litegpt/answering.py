"""From prepared images to what the model says of them: encode, prefill, decode, score.

Two ways, by what the model was trained for and what it is held to:

    ordered answers, within the grammar   [identify] is decoded; all answers to [vqa] are scored at once, and
                                          so is every label
    else                                  both are decoded side by side; what was said has a score
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import torch

from litegpt.answers import GridFinding, ReadAnswer, ReadLabel, read_diagnoses, read_findings
from litegpt.boxes import GridBox, about_right
from litegpt.candidates import Wanted, candidate_boxes
from litegpt.constraint import Chooser, Unconstrained, going_on
from litegpt.decoding import Prefix
from litegpt.generated import Generated
from litegpt.grammar import Grammar
from litegpt.memory import EXPECTED_ANSWER, ON_CPU, cached_token_bytes, free_bytes, largest_batch
from litegpt.model_folder import LiteGPT
from litegpt.projection import IMAGE_EMBEDDINGS
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.scores import DiagnosisScores, LabelScores, Scorer
from litegpt.stopwatch import Stopwatch
from litegpt.vocabulary import LOCAL_LABELS

CANDIDATES_ABOVE: Final = 0.01
"""A label that is less probable gets no candidate box."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A label that was said, or might have been, with its box on the grid; scores as of ``Finding``."""

    label: str
    score: float
    box: GridBox | None = None
    box_score: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model says of one image.

    Attributes:
        answers: By the prompt's tag.
        failed: Tags of the answers in which the model's numbers were NaN or infinite.
        statements: What was said.
        malformed: How many pieces of the answers could not be read.
        label_scores: Of all labels, or of none.
        candidates: Boxes for labels that were not said.
    """

    answers: Mapping[str, str]
    failed: tuple[str, ...]
    statements: tuple[Statement, ...]
    malformed: int = 0
    label_scores: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[Statement, ...] = ()

    @property
    def grid_findings(self) -> list[GridFinding]:
        """The findings with boxes that were said."""
        return [(said.label, said.box) for said in self.statements if said.box is not None]

    @property
    def unsaid_labels(self) -> list[str]:
        """The local labels that were not."""
        said = {statement.label for statement in self.statements}
        return [label for label in LOCAL_LABELS if label not in said]


class Answerer:
    """Asks a model about batches of images."""

    def __init__(self, loaded: LiteGPT, device: str, grammar: Grammar | None, stopwatch: Stopwatch) -> None:
        """Args:
        loaded: The model, on its device.
        device: Which that is.
        grammar: What answers are held to, if anything.
        stopwatch: Told how long each stage takes.
        """
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._device = device
        self._dtype = next(loaded.model.parameters()).dtype
        self._grammar = grammar
        self._stopwatch = stopwatch
        self._budget = loaded.config.max_new_tokens
        pad = loaded.tokenizer.pad_token_id
        self._pad = int(loaded.tokenizer.eos_token_id if pad is None else pad)
        prompts = {
            tag: tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag]) for tag in (IDENTIFY, VQA)
        }
        # The wrapper is the same for every prompt, so what comes before the image is, too.
        self._before = prompts[IDENTIFY].before  # (1, before)
        self._after = {tag: prompt.after[0].tolist() for tag, prompt in prompts.items()}
        # What every answer begins with need not be decoded; and where the grammar goes on from there.
        self._openings = {tag: grammar.opening(tag) for tag in self._after} if grammar is not None else {}
        self._scorer = None
        if grammar is not None and grammar.ordered:
            identify, vqa = self._after[IDENTIFY], self._after[VQA]
            self._scorer = Scorer(grammar, identify=identify, vqa=vqa, pad=self._pad)

    def planned_batch(self) -> int:
        """Images at once: what fits the memory that is free now; a fixed number on the CPU."""
        if not self._device.startswith("cuda"):
            return ON_CPU
        prefix = self._before.shape[1] + IMAGE_EMBEDDINGS
        # Where answers are scored, all those to [vqa] at once take about as much as one that is decoded.
        answer = prefix + min(self._budget, EXPECTED_ANSWER)
        answers = sum(len(after) + answer for after in self._after.values())
        token_bytes = cached_token_bytes(cast(Any, self._model.language_model).config, self._dtype)
        free = free_bytes(self._device)
        return largest_batch(free, token_bytes=token_bytes, prefix=prefix, answers=answers)

    @torch.inference_mode()
    def answer(self, images: Sequence[torch.Tensor], *, candidates: bool = False) -> list[Answered]:
        """Asks both questions.

        Args:
            images: As ``LiteGPTNetwork.visual_tokens`` takes them, each (batch, 3, size, size).
            candidates: Whether to look for boxes of labels that are not said.
        """
        with self._stopwatch.stage("encode"):
            embedded = self._model.image_embeddings(images)  # (batch, 49, embedding)
        with self._stopwatch.stage("prefill"):
            before = self._model.embed_tokens(self._before.to(self._device))  # (1, before, embedding)
            before = before.expand(len(embedded), -1, -1)  # (batch, before, embedding)
            prefix = Prefix(
                self._model.language_model, torch.cat([before, embedded.to(before.dtype)], dim=1)
            )  # of (batch, before + 49, embedding)
        if self._scorer is None:
            return self._side_by_side(prefix)
        return self._scored(prefix, self._scorer, candidates=candidates)

    def _side_by_side(self, prefix: Prefix) -> list[Answered]:
        tags = [IDENTIFY, VQA]
        generated = self._decode(prefix, tags)
        local, overall = generated[: prefix.images], generated[prefix.images :]
        with self._stopwatch.stage("parse"):
            return [_said(*both) for both in zip(local, overall, strict=True)]

    def _scored(self, prefix: Prefix, scorer: Scorer, *, candidates: bool) -> list[Answered]:
        generated = self._decode(prefix, [IDENTIFY])
        with self._stopwatch.stage("parse"):
            read = [read_findings(answer.text) for answer in generated]
        with self._stopwatch.stage("score"):
            diagnoses = scorer.diagnoses(prefix)
            labels = scorer.labels(prefix, [_grid_findings(answer) for answer in read])
        answered = [_said_and_scored(*each) for each in zip(generated, read, diagnoses, labels, strict=True)]
        return self._with_candidates(prefix, answered) if candidates else answered

    def _decode(self, prefix: Prefix, tags: Sequence[str]) -> list[Generated]:
        """The answers to each prompt in turn, of all images."""
        images = range(prefix.images)
        with self._stopwatch.stage("prefill"):
            openings = [self._openings[tag][0] if self._openings else () for tag in tags]
            suffixes = [
                [*self._after[tag], *opening]
                for tag, opening in zip(tags, openings, strict=True)
                for _ in images
            ]
            decoder = prefix.ask([*images] * len(tags), suffixes)
        with self._stopwatch.stage("generate"):
            budget = self._budget - max(map(len, openings))
            decoded = decoder.generate(self._chooser(tags, prefix.images), budget=budget, pad=self._pad)
            failed = decoded.failed.tolist()  # waits for the device
        with self._stopwatch.stage("parse"):
            said = [list(opening) for opening in openings for _ in images]
            rows = zip(said, decoded.ids.tolist(), decoded.probabilities.tolist(), failed, strict=True)
            return [
                Generated.of(self._tokenizer, first + ids, [1.0] * len(first) + likely, failed=broken)
                for first, ids, likely, broken in rows
            ]

    def _chooser(self, tags: Sequence[str], batch: int) -> Chooser:
        if self._grammar is not None:
            return going_on(self._grammar, [self._openings[tag][1] for tag in tags], batch)
        eos = cast(int, self._tokenizer.eos_token_id)
        return Unconstrained(len(tags) * batch, eos=eos, pad=self._pad, device=self._device)

    def _with_candidates(self, prefix: Prefix, answered: Sequence[Answered]) -> list[Answered]:
        """Adds a box for every local label that was not said and is probable enough."""
        assert self._grammar is not None  # else nothing has scores
        wanted = [
            Wanted(image, each.grid_findings, label)
            for image, each in enumerate(answered)
            if not each.failed
            for label in each.unsaid_labels
            if each.label_scores[label] > CANDIDATES_ABOVE
        ]
        with self._stopwatch.stage("candidates"):
            boxes = candidate_boxes(prefix, self._grammar, self._after[IDENTIFY], wanted, self._pad)
        found: list[list[Statement]] = [[] for _ in answered]
        for each, box in zip(wanted, boxes, strict=True):
            if box is not None:
                score = answered[each.image].label_scores[each.label]
                found[each.image].append(Statement(each.label, score, *box))
        return [replace(each, candidates=tuple(own)) for each, own in zip(answered, found, strict=True)]


def _said(identify: Generated, vqa: Generated) -> Answered:
    """Two answers as they were said; what they say has the probability of its tokens."""
    local, overall = read_findings(identify.text), read_diagnoses(vqa.text)
    statements = [
        Statement(read.label, answer.probability(read.start, read.end), read.box, _box_score(read, answer))
        for answer, said in ((identify, local), (vqa, overall))
        for read in said.labels
    ]
    return Answered(
        answers={IDENTIFY: identify.text, VQA: vqa.text},
        failed=tuple(tag for tag, answer in ((IDENTIFY, identify), (VQA, vqa)) if answer.failed),
        statements=tuple(statements),
        malformed=local.malformed + overall.malformed,
    )


def _said_and_scored(
    identify: Generated, local: ReadAnswer, vqa: DiagnosisScores, labels: LabelScores
) -> Answered:
    """An answer to ``[identify]``, the greedy one to ``[vqa]``, and the scores of all labels."""
    overall = read_diagnoses(vqa.answer)
    findings = [
        Statement(read.label, score, read.box, _box_score(read, identify))
        for read, score in zip(local.labels, labels.said, strict=True)
    ]
    failed = {IDENTIFY: identify.failed or labels.failed, VQA: vqa.failed}
    return Answered(
        answers={IDENTIFY: identify.text, VQA: vqa.answer},
        failed=tuple(tag for tag, broken in failed.items() if broken),
        statements=(*findings, *(Statement(read.label, vqa.by_label[read.label]) for read in overall.labels)),
        malformed=local.malformed,
        label_scores={**labels.by_label, **vqa.by_label},
    )


def _box_score(read: ReadLabel, answer: Generated) -> float | None:
    if read.box is None:
        return None
    return about_right(read.box, answer.probability(read.end, read.box_end))


def _grid_findings(read: ReadAnswer) -> list[GridFinding]:
    return [(said.label, said.box) for said in read.labels if said.box is not None]
