"""The loop: targets, losses, what each stage may change, and that it learns and repeats."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import LlamaForCausalLM

from litegpt.boxes import Box
from litegpt.model_folder import LiteGPT
from litegpt.prompts import IDENTIFY, VQA
from litegpt.tokenizer import number_token, phantom_tokenizer
from tests.litegpt.tiny_models import save_tiny_model, tiny_model
from tests.litegpt.tokenizers import byte_level
from training.batches import IGNORED, make_batch
from training.dense import DenseHead, dense_loss, dense_targets
from training.errors import TrainingError
from training.loop import Learner, Progress, run_stage
from training.losses import answer_loss, near_numbers
from training.phantom.radiograph import DRAWN_LABELS, SIDE, DrawnFinding, phantoms
from training.phantom_model import train_adapter_stage, train_phantom_model
from training.stages import DIAGNOSIS, ENCODERS, GROUNDING, PRETRAINING, Stage, scaled


def ignore(progress: Progress) -> None:
    assert progress.loss == progress.loss


def finding(label: str, *sides: float) -> DrawnFinding:
    return DrawnFinding(label, Box(*sides), cast(Any, None))


class TestTargets:
    def test_a_box_covers_its_cells_in_both_grids(self) -> None:
        # 14 cells of 16 pixels, 7 of 32: columns 2, 3 and row 1 of the first; column 1 and half a row of B.
        labels, boxes = dense_targets([finding("Cardiomegaly", 32, 16, 64, 32)])
        index = DRAWN_LABELS.index("Cardiomegaly")
        covered = {int(cell) for cell in labels[:, index].nonzero()[0]}
        assert covered == {14 + 2, 14 + 3, 196 + 1}
        assert boxes[16].tolist() == pytest.approx([32 / SIDE, 16 / SIDE, 64 / SIDE, 32 / SIDE])
        assert labels.sum() == 3

    def test_a_cell_tells_of_its_smallest_box(self) -> None:
        large, small = finding("Cardiomegaly", 0, 0, 200, 200), finding("Calcification", 96, 96, 112, 112)
        for order in ([large, small], [small, large]):
            _, boxes = dense_targets(order)
            assert boxes[6 * 14 + 6, 0] == pytest.approx(96 / SIDE)

    def test_a_finding_smaller_than_a_cell_still_has_one(self) -> None:
        labels, _ = dense_targets([finding("Calcification", 20, 20, 24, 24)])
        assert labels[1 * 14 + 1].sum() == 1 and labels[196].sum() == 1

    def test_nothing_drawn_is_nothing_to_say(self) -> None:
        labels, boxes = dense_targets([])
        assert labels.shape == (245, len(DRAWN_LABELS)) and labels.sum() == 0
        assert bool((boxes != boxes).all())

    def test_answers_are_padded_with_what_the_loss_ignores(self) -> None:
        tokenizer = phantom_tokenizer()
        batch = make_batch(list(islice(phantoms(3), 6)), tokenizer)
        for answers in (batch.findings, batch.diagnoses):
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
        batch = make_batch(list(islice(phantoms(5), 3)), loaded.tokenizer)
        learner = Learner(loaded)
        llama = cast(LlamaForCausalLM, loaded.model.language_model)
        images = loaded.preprocessings[0].normalise(batch.squares)
        table = llama.model.embed_tokens.weight
        for tag, answers in ((IDENTIFY, batch.findings), (VQA, batch.diagnoses)):
            assert (answers == IGNORED).any()
            embeddings = loaded.model.image_embeddings(images)
            prompt = learner.prompts[tag]
            forced = answers.masked_fill(answers == IGNORED, 7)
            found = answer_loss(loaded.model.answer_logits(embeddings, prompt, forced), answers, None, None)
            rows, labels = [], []
            for image, answer in zip(embeddings, answers, strict=True):
                said = answer.clamp(min=0)
                before = torch.cat([table[prompt.before[0]], image, table[prompt.after[0]]])
                rows.append(torch.cat([before, table[said]]))
                labels.append(torch.cat([torch.full((len(before),), -100), answer]))
            expected = llama(inputs_embeds=torch.stack(rows), labels=torch.stack(labels)).loss
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_numbers_in_digits_are_learnt_as_any_other_token(self) -> None:
        """With a tokenizer that has no token for <0> but one for what it does not know, as Llama-2's."""
        digits = byte_level(splits_digits=True)
        digits.unk_token = "<s>"
        assert digits.convert_tokens_to_ids(number_token(0)) == digits.unk_token_id
        loaded = replace(tiny_model(seed=6, has_adapter=False), tokenizer=digits)
        learner, batch = Learner(loaded), make_batch(list(islice(phantoms(5), 2)), digits)
        embeddings = loaded.model.image_embeddings(learner.preprocessing.normalise(batch.squares))
        for tag, answers in ((IDENTIFY, batch.findings), (VQA, batch.diagnoses)):
            stage = GROUNDING if tag == IDENTIFY else replace(DIAGNOSIS, identify_weight=0)
            forced = answers.clamp(min=0)
            logits = loaded.model.answer_logits(embeddings, learner.prompts[tag], forced)
            expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
            torch.testing.assert_close(learner.losses(batch, stage)[tag], expected)

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
        batch = make_batch(list(islice(phantoms(4), 4)), phantom_tokenizer())
        head = DenseHead(8)
        tokens = torch.randn(4, 245, 8)
        targets = (batch.cell_labels, batch.cell_boxes, batch.diagnosis_labels)
        before = dense_loss(head, tokens, *targets)
        with torch.no_grad():
            for layer in (head.cells_a, head.cells_b):
                layer.weight.zero_()
                layer.bias[: len(DRAWN_LABELS)] = -5
        assert dense_loss(head, tokens, *targets) < before


def parts(loaded: LiteGPT) -> dict[str, dict[str, torch.Tensor]]:
    state = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    return {
        "encoders": {name: state[name] for name in state if name.startswith("encoders.")},
        "projection": {name: state[name] for name in state if name.startswith("projection")},
        "adapter": {name: state[name] for name in state if "lora_" in name},
        "language model": {
            name: state[name] for name in state if name.startswith("language_model") and "lora_" not in name
        },
    }


@pytest.mark.parametrize(
    ("stage", "adapter", "changed"),
    [
        (ENCODERS, False, {"encoders"}),
        (PRETRAINING, False, {"encoders", "projection", "language model"}),
        (GROUNDING, True, {"projection", "adapter"}),
        (DIAGNOSIS, True, {"projection", "adapter"}),
    ],
    ids=lambda value: value.name if isinstance(value, Stage) else None,
)
def test_a_stage_changes_its_parts_only(stage: Stage, adapter: bool, changed: set[str]) -> None:
    loaded = tiny_model(has_adapter=adapter)
    before = parts(loaded)
    run_stage(Learner(loaded), replace(stage, images=8, batch_size=4), seed=0, report=ignore)
    after = parts(loaded)
    differing = {
        part for part in before if any(not torch.equal(after[part][n], before[part][n]) for n in before[part])
    }
    assert differing == changed


def test_the_same_seed_trains_the_same_model() -> None:
    states = []
    for _ in range(2):
        loaded = tiny_model(has_adapter=False)
        run_stage(Learner(loaded), replace(PRETRAINING, images=12, batch_size=4), seed=5, report=ignore)
        states.append(loaded.model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], atol=0, rtol=0, msg=name)


def test_training_lowers_the_loss() -> None:
    losses: list[float] = []
    stage = replace(PRETRAINING, images=400, batch_size=4, learning_rate=3e-3)
    learner = Learner(tiny_model(has_adapter=False))
    run_stage(learner, stage, seed=0, report=lambda progress: losses.append(progress.vqa))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    loaded = tiny_model(has_adapter=False)
    with torch.no_grad():
        loaded.model.projection.fc1.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss of stage pretraining is nan after 0 images"):
        run_stage(Learner(loaded), scaled(PRETRAINING, 0), seed=0, report=ignore)


def test_a_time_limit_ends_a_stage() -> None:
    seen: list[Progress] = []
    stage = replace(GROUNDING, batch_size=2, minutes=1 / 60)
    run_stage(Learner(tiny_model()), stage, seed=0, report=seen.append)
    assert seen[-1].images < stage.images and seen[-1].seconds < 20


def test_an_adapter_stage_keeps_what_the_model_folder_says(tmp_path: Path) -> None:
    saved = save_tiny_model(tmp_path / "start")
    stage = replace(GROUNDING, images=4, batch_size=4)
    train_adapter_stage(tmp_path / "start", tmp_path / "end", stage, seed=0, report=ignore)
    end = LiteGPT.from_pretrained(tmp_path / "end", merge=False)
    assert end.config == saved.config
    torch.testing.assert_close(parts(end)["language model"], parts(saved)["language model"])


def test_the_whole_chain_writes_a_model_folder_and_its_log(tmp_path: Path) -> None:
    train_phantom_model(tmp_path / "model", seed=1, factor=0, report=ignore)
    loaded = LiteGPT.from_pretrained(tmp_path / "model")
    assert loaded.config.has_adapter and loaded.config.identity.demonstration
    with (tmp_path / "model" / "training_log.csv").open() as file:
        assert next(csv.reader(file))[:3] == ["stage", "images", "total"]


def test_numbers_are_consecutive_tokens() -> None:
    tokenizer = phantom_tokenizer()
    ids = tokenizer.convert_tokens_to_ids([number_token(number) for number in range(101)])
    assert ids == list(range(ids[0], ids[0] + 101))
