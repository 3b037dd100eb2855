"""Scores: each is what teacher-forcing every legal answer by itself gives, by plain loops over texts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from litegpt.answers import GridFinding, join_findings, read_diagnoses, read_findings, write_diagnoses
from litegpt.boxes import GRID, Box
from litegpt.engine import Engine
from litegpt.findings import Reading
from litegpt.model_folder import LiteGPT
from litegpt.phantoms import phantom_files
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph, read_radiograph
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from tests.litegpt.tiny_models import tiny_model

Probability = Callable[[str, list[str], str], float]


@dataclasses.dataclass(frozen=True)
class Plain:
    """The shipped model without engine, decode loop, cache, grammar or trees."""

    loaded: LiteGPT
    seen: dict[int, torch.Tensor] = dataclasses.field(default_factory=dict)

    def embedded(self, image: Radiograph) -> torch.Tensor:
        """(1, 49, embedding)"""
        if id(image) not in self.seen:
            prepared = self.loaded.config.preprocessing([image])
            self.seen[id(image)] = self.loaded.model.image_embeddings(prepared)
        return self.seen[id(image)]

    def probability(self, image: Radiograph, tag: str, before: str, ways: list[str], way: str) -> float:
        """Of one way to go on after a text, among several; by products of shares among their tokens."""
        loaded = self.loaded
        prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag])
        embedded = self.embedded(image)
        start = len(self._ids(before)) if before else 0
        tokens = {other: [*self._ids(before + other), loaded.tokenizer.eos_token_id] for other in ways}
        said = tokens[way]
        logits = loaded.model.answer_logits(embedded, prompt, torch.tensor([said]))[0]
        product = 1.0
        for place in range(start, len(said)):
            legal = sorted({other[place] for other in tokens.values() if other[:place] == said[:place]})
            product *= float(logits[place, legal].softmax(dim=0)[legal.index(said[place])])
        return product

    def _ids(self, text: str) -> list[int]:
        return list(self.loaded.tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain(LiteGPT.from_pretrained("phantom"))


@pytest.fixture(scope="module")
def radiographs() -> list[Radiograph]:
    """Two findings of different labels, one of a kind that is easy to doubt, and none."""
    return [read_radiograph(path) for path in phantom_files()[:3]]


@pytest.fixture(scope="module")
def readings(radiographs: list[Radiograph]) -> list[Reading]:
    return Engine.load("phantom", device="cpu").read(radiographs, candidates=True)


def test_every_label_has_a_score(readings: list[Reading]) -> None:
    for reading in readings:
        assert set(reading.label_scores) == set(LABELS)
        assert all(0 <= score <= 1 for score in reading.label_scores.values())


def test_diagnoses_have_the_probability_of_all_answers_that_name_them(
    plain: Plain, radiographs: list[Radiograph], readings: list[Reading]
) -> None:
    named = [set(some) for count in range(6) for some in itertools.combinations(DIAGNOSES[:-1], count)]
    answers = [write_diagnoses(some) for some in named]
    for image, reading in zip(radiographs, readings, strict=True):
        likely = [plain.probability(image, VQA, "", answers, answer) for answer in answers]
        assert sum(likely) == pytest.approx(1, abs=1e-5)
        for diagnosis in DIAGNOSES[:-1]:
            expected = sum(one for one, some in zip(likely, named, strict=True) if diagnosis in some)
            assert reading.label_scores[diagnosis] == pytest.approx(expected, abs=1e-4)
        assert reading.label_scores[NO_FINDING] == pytest.approx(likely[0], abs=1e-4)


def test_local_labels_have_the_probability_of_being_said_when_it_is_their_turn(
    plain: Plain, radiographs: list[Radiograph], readings: list[Reading]
) -> None:
    """At each decision: among the labels not passed yet and the end, those before this one left out."""
    anywhere = (10, 20, 30, 40)
    for image, reading in zip(radiographs, readings, strict=True):
        findings: list[GridFinding] = [
            (said.label, said.box) for said in read_findings(reading.answers[IDENTIFY]).labels if said.box
        ]
        expected: dict[str, float] = {}
        for number in range(len(findings) + 1):
            said = findings[:number]
            passed = LOCAL_LABELS.index(said[-1][0]) if said else 0
            ways = {label: join_findings([*said, (label, anywhere)]) for label in LOCAL_LABELS[passed:]}
            end = join_findings(said)
            before = end.removesuffix("}.") if said else ""
            # Only up to the label: the box behind it is another question.
            texts = {
                name: text.split(f"<p>{name}</p>")[0] + f"<p>{name}</p>" if name else text
                for name, text in (*ways.items(), ("", end))
            }
            if said:
                texts = {
                    name: end.removesuffix(".") + ("." if not name else f",<p>{name}</p>") for name in texts
                }
            rest = {name: text.removeprefix(before) for name, text in texts.items()}
            likely = {
                name: plain.probability(image, IDENTIFY, before, list(rest.values()), rest[name])
                for name in rest
            }
            here = findings[number][0] if number < len(findings) else LOCAL_LABELS[-1]
            for label in ways:
                later = [likely[name] for name in list(rest)[list(rest).index(label) :]]
                expected.setdefault(label, likely[label] / sum(later))
                if label == here:
                    break
        assert set(expected) == set(LOCAL_LABELS)
        for label, score in expected.items():
            assert reading.label_scores[label] == pytest.approx(score, abs=1e-4), label


def test_what_is_said_has_its_label_s_score(readings: list[Reading]) -> None:
    for reading in readings:
        first = {finding.label: finding.score for finding in reversed(reading.findings)}
        for label, score in first.items():
            assert score == reading.label_scores[label]


def test_a_box_has_the_probability_of_its_numbers_and_of_boxes_like_it(
    plain: Plain, radiographs: list[Radiograph], readings: list[Reading]
) -> None:
    """All numbers are legal here but those that would turn a box inside out."""
    for image, reading in zip(radiographs, readings, strict=True):
        said: list[GridFinding] = []
        for read, finding in zip(
            read_findings(reading.answers[IDENTIFY]).labels, reading.findings, strict=False
        ):
            assert read.box is not None and finding.box_score is not None
            x_min, y_min, x_max, y_max = read.box
            before = reading.answers[IDENTIFY][: read.end] + "</p> {"
            expected = 1.0
            for value, numbers in (
                (x_min, range(GRID)),
                (y_min, range(GRID)),
                (x_max, range(x_min + 1, GRID + 1)),
                (y_max, range(y_min + 1, GRID + 1)),
            ):
                if said and said[-1][0] == read.label:
                    break  # then the order of findings forbids more
                ways = [f"<{number}>" for number in numbers]
                expected *= plain.probability(image, IDENTIFY, before, ways, f"<{value}>")
                before += f"<{value}>"
            else:
                width, height = x_max - x_min, y_max - y_min
                odds = expected * max(1, 0.2208 * width**2 * height**2)
                assert finding.box_score == pytest.approx(odds / (1 + odds), rel=1e-3)
            said.append((read.label, read.box))


def test_candidates_are_what_the_model_goes_on_with_once_a_label_is_said(
    plain: Plain, radiographs: list[Radiograph], readings: list[Reading]
) -> None:
    loaded, seen = plain.loaded, 0
    for image, reading in zip(radiographs, readings, strict=True):
        said = {finding.label for finding in reading.findings}
        unsaid = {label for label in LOCAL_LABELS if label not in said and reading.label_scores[label] > 0.01}
        assert {candidate.label for candidate in reading.candidates} == unsaid
        spoken = [(one.label, one.box) for one in read_findings(reading.answers[IDENTIFY]).labels if one.box]
        prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[IDENTIFY])
        embedded = plain.embedded(image)
        for candidate in reading.candidates:
            assert candidate.score == reading.label_scores[candidate.label]
            place = LOCAL_LABELS.index(candidate.label)
            before = [one for one in spoken if LOCAL_LABELS.index(one[0]) < place]
            text = join_findings([*before, (candidate.label, (1, 2, 3, 4))]).removesuffix("<1><2><3><4>}.")
            ids = torch.tensor([loaded.tokenizer.encode(text, add_special_tokens=False)])
            prompted = torch.cat(
                [loaded.model.embed_prompt(embedded, prompt), loaded.model.embed_tokens(ids)], dim=1
            )
            more = loaded.model.language_model.generate(
                inputs_embeds=prompted, max_new_tokens=4, do_sample=False
            )
            box = read_findings(text + loaded.tokenizer.decode(more[0]) + "}.").labels[-1].box
            assert box is not None
            assert candidate.box == Box.from_grid(box, image.columns, image.rows)
            seen += 1
    assert seen


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_are_scored_too(tmp_path: Path, seed: int) -> None:
    """A model that says forty findings of one label in a row, or breaks off at its budget."""
    loaded = tiny_model(seed)
    config = dataclasses.replace(loaded.config, ordered_answers=True, max_new_tokens=150)
    for parameter in loaded.model.parameters():
        parameter.copy_(parameter.half().float())
    dataclasses.replace(loaded, config=config).save_pretrained(tmp_path / "model")
    noise = np.random.default_rng(seed).integers(0, 256, (4, 60, 50), dtype=np.uint8)
    images = [Radiograph(pixels) for pixels in noise]
    engine = Engine.load(tmp_path / "model", device="cpu")
    for image, reading in zip(images, engine.read(images, candidates=True), strict=True):
        assert reading.failure is None and reading.malformed == 0
        assert read_diagnoses(reading.answers[VQA]).malformed == 0
        total = sum(reading.label_scores[name] for name in DIAGNOSES)
        assert total >= 1 - 1e-6
        assert all(0 <= score <= 1 for score in reading.label_scores.values())
        (again,) = engine.read([image], candidates=True)
        assert again.answers == reading.answers
        assert again.label_scores == pytest.approx(reading.label_scores, abs=1e-4)


def test_a_model_of_no_order_has_scores_for_what_it_says_alone(tmp_path: Path) -> None:
    loaded = tiny_model(1)
    loaded.save_pretrained(tmp_path / "model")
    (reading,) = Engine.load(tmp_path / "model", device="cpu").read([Radiograph(np.zeros((9, 9), np.uint8))])
    assert reading.label_scores == {} and not reading.calibrated and reading.candidates == ()
