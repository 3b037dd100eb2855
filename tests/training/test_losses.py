"""The losses, and the targets that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import cast

import pytest
import torch
from transformers import LlamaForCausalLM

from litegpt.boxes import Box
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.tokenizer import number_token, phantom_tokenizer
from litegpt.vocabulary import LOCAL_LABELS
from tests.litegpt.tiny_models import tiny_model
from tests.litegpt.tokenizers import byte_level
from tests.training.recipes import short
from training.batches import IGNORED, Teaching, make_batch
from training.dense import DenseHead, dense_loss, dense_targets
from training.learner import Learner
from training.lessons import Lesson, in_fractions
from training.losses import answer_loss, near_numbers
from training.phantom.radiograph import SIDE, phantoms
from training.recipe import Recipe

GRIDS = (14, 7)
"""Cells along a side, for patches of 16 and 32 pixels."""


def finding(label: str, *sides: float) -> tuple[str, Box]:
    return label, Box(*(side / SIDE for side in sides))


def lessons(seed: int, count: int) -> Sequence[Lesson]:
    return [
        Lesson(
            name="",
            squares=(drawn.pixels,),
            boxes=tuple((one.label, in_fractions(one.box, SIDE, SIDE)) for one in drawn.findings),
            diagnoses=frozenset(drawn.diagnoses),
        )
        for drawn in islice(phantoms(seed), count)
    ]


def both(**values: object) -> Recipe:
    """Both prompts on the whole batch, computed in float32."""
    return short("mixture", precision="fp32", **values)


class TestTargets:
    def test_a_box_covers_its_cells_in_both_grids(self) -> None:
        # 14 cells of 16 pixels, 7 of 32: columns 2, 3 and row 1 of the first; column 1 and half a row of B.
        labels, boxes = dense_targets([finding("Cardiomegaly", 32, 16, 64, 32)], GRIDS)
        index = LOCAL_LABELS.index("Cardiomegaly")
        covered = {int(cell) for cell in labels[:, index].nonzero()[0]}
        assert covered == {14 + 2, 14 + 3, 196 + 1}
        assert boxes[16].tolist() == pytest.approx([32 / SIDE, 16 / SIDE, 64 / SIDE, 32 / SIDE])
        assert labels.sum() == 3

    def test_a_cell_tells_of_its_smallest_box(self) -> None:
        large, small = finding("Cardiomegaly", 0, 0, 200, 200), finding("Calcification", 96, 96, 112, 112)
        for order in ([large, small], [small, large]):
            _, boxes = dense_targets(order, GRIDS)
            assert boxes[6 * 14 + 6, 0] == pytest.approx(96 / SIDE)

    def test_a_finding_smaller_than_a_cell_still_has_one(self) -> None:
        labels, _ = dense_targets([finding("Calcification", 20, 20, 24, 24)], GRIDS)
        assert labels[1 * 14 + 1].sum() == 1 and labels[196].sum() == 1

    def test_nothing_drawn_is_nothing_to_say(self) -> None:
        labels, boxes = dense_targets([], GRIDS)
        assert labels.shape == (245, len(LOCAL_LABELS)) and labels.sum() == 0
        assert bool((boxes != boxes).all())

    def test_answers_are_padded_with_what_the_loss_ignores(self) -> None:
        tokenizer = phantom_tokenizer()
        batch = make_batch(lessons(3, 6), Teaching(tokenizer, both(), GRIDS))
        for answers in batch.answers.values():
            for row in answers:
                kept = row[row != IGNORED]
                assert kept[-1] == tokenizer.eos_token_id
                assert tokenizer.decode(kept[:-1]).endswith(".")


class TestLosses:
    def test_plain_loss_is_torch_s_cross_entropy(self) -> None:
        logits, answers = torch.randn(3, 5, 20), torch.randint(0, 20, (3, 5))
        answers[1, 3:] = IGNORED
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
        torch.testing.assert_close(answer_loss(logits, answers, None, None), expected)

    def test_the_loss_of_answers_is_llama_s_own(self) -> None:
        """transformers' loss over whole prompts and answers, all but the answers' tokens and EOS left out."""
        loaded = tiny_model(seed=6, has_adapter=False)
        recipe = both(number_sigma=0)
        batch = make_batch(lessons(2, 3), Teaching.of(loaded, recipe))
        found = Learner(loaded, recipe)(batch, 0)
        llama = cast(LlamaForCausalLM, loaded.model.language_model)
        images = loaded.preprocessings[0].normalise(batch.squares[0])
        table = llama.model.embed_tokens.weight
        for tag, answers in batch.answers.items():
            assert (answers == IGNORED).any()
            embeddings = loaded.model.image_embeddings(images)
            prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag])
            rows, labels = [], []
            for image, answer in zip(embeddings, answers, strict=True):
                said = answer.clamp(min=0)
                before = torch.cat([table[prompt.before[0]], image, table[prompt.after[0]]])
                rows.append(torch.cat([before, table[said]]))
                labels.append(torch.cat([torch.full((len(before),), -100), answer]))
            expected = llama(inputs_embeds=torch.stack(rows), labels=torch.stack(labels)).loss
            torch.testing.assert_close(found[tag], expected, atol=1e-5, rtol=1e-5)

    def test_numbers_in_digits_are_learnt_as_any_other_token(self) -> None:
        """With a tokenizer that has no token for <0> but one for what it does not know, as Llama-2's."""
        digits = byte_level(splits_digits=True)
        digits.unk_token = "<s>"
        assert digits.convert_tokens_to_ids(number_token(0)) == digits.unk_token_id
        loaded = replace(tiny_model(seed=6, has_adapter=False), tokenizer=digits)
        batch = make_batch(lessons(5, 2), Teaching.of(loaded, both()))
        soft, plain = (Learner(loaded, both(number_sigma=sigma))(batch, 0) for sigma in (1, 0))
        assert soft.keys() == plain.keys() == {IDENTIFY, VQA}
        for tag in soft:
            torch.testing.assert_close(soft[tag], plain[tag])

    def test_a_share_of_the_batch_learns_a_prompt_and_the_weights_are_the_recipe_s(self) -> None:
        loaded = tiny_model(seed=6, has_adapter=False)
        recipe = short("pretraining", precision="fp32")
        batch = make_batch(lessons(5, 4), Teaching.of(loaded, recipe))
        assert len(batch.answers[IDENTIFY]) == 4 and len(batch.answers[VQA]) == 2
        learner = Learner(loaded, recipe)
        losses = learner(batch, 0)
        expected = losses["dense"] + losses[IDENTIFY] + 0.5 * losses[VQA]
        torch.testing.assert_close(learner.weighted(losses), expected)

    def test_an_instruction_of_the_recipe_s_own_is_asked(self) -> None:
        loaded = tiny_model(seed=6, has_adapter=False)
        batch = make_batch(lessons(5, 2), Teaching.of(loaded, both()))
        said = {}
        for text in ("plain", loaded.config.instructions[IDENTIFY], "[grounding] list what you see."):
            recipe = both(tasks__identify__instructions=text)
            said[text] = float(Learner(loaded, recipe)(batch, 0)[IDENTIFY])
        assert said["plain"] == said[loaded.config.instructions[IDENTIFY]]
        assert said["plain"] != said["[grounding] list what you see."]

    def test_a_near_number_costs_less_than_a_far_one(self) -> None:
        answers = torch.tensor([[50]])
        costs = []
        for said in (50, 51, 60):
            logits = torch.full((1, 1, 120), -5.0)
            logits[0, 0, said] = 5.0
            costs.append(answer_loss(logits, answers, 0, near_numbers(1.0)).item())
        assert costs[0] < costs[1] < costs[2]

    def test_soft_targets_spread_by_a_gaussian(self) -> None:
        near = near_numbers(1.0)
        torch.testing.assert_close(near.sum(dim=1), torch.ones(101))
        assert near[50, 51] / near[50, 50] == pytest.approx(torch.tensor(-0.5).exp().item())

    def test_the_dense_loss_falls_as_the_head_is_right(self) -> None:
        batch = make_batch(lessons(4, 4), Teaching(phantom_tokenizer(), short("encoders"), GRIDS))
        assert batch.dense is not None
        head = DenseHead(8, GRIDS)
        tokens = torch.randn(4, 245, 8)
        targets = (batch.dense.labels, batch.dense.boxes, batch.dense.diagnoses)
        before = dense_loss(head, tokens, *targets)
        with torch.no_grad():
            for layer in head.cells:
                layer.weight.zero_()
                layer.bias[: len(LOCAL_LABELS)] = -5
        assert dense_loss(head, tokens, *targets) < before
