"""The engine: batches answer as single images do, scores are probabilities, boxes land in the right place."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from litegpt.answering import Answered
from litegpt.answers import read_diagnoses, read_findings
from litegpt.boxes import Box
from litegpt.engine import Engine
from litegpt.errors import ModelError, RadiographError
from litegpt.findings import Reading
from litegpt.generated import Generated
from litegpt.model_folder import LiteGPT
from litegpt.phantoms import phantom_files
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph, read_radiograph
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS
from tests.litegpt.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def shipped() -> Engine:
    return Engine.load("phantom", device="cpu")


@pytest.fixture(scope="module")
def radiographs() -> list[Radiograph]:
    return [read_radiograph(path) for path in phantom_files()]


def noise(rows: int, columns: int, seed: int) -> Radiograph:
    return Radiograph(np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8))


def assert_same(one: Reading, other: Reading) -> None:
    assert one.answers == other.answers
    assert one.malformed == other.malformed
    assert [(finding.label, finding.box) for finding in one.findings] == [
        (finding.label, finding.box) for finding in other.findings
    ]
    scores = [finding.score for finding in one.findings]
    assert scores == pytest.approx([finding.score for finding in other.findings], abs=1e-4)


def test_a_batch_answers_as_single_images_do(shipped: Engine, radiographs: list[Radiograph]) -> None:
    together = shipped.read(radiographs)
    for radiograph, reading in zip(radiographs, together, strict=True):
        assert_same(shipped.read([radiograph])[0], reading)


def test_a_batch_size_of_the_callers_own_makes_no_difference_to_the_answers(
    radiographs: list[Radiograph],
) -> None:
    engine = Engine(LiteGPT.from_pretrained("phantom"), "cpu", batch_size=3)
    assert engine.batch_size == 3
    free = Engine.load("phantom", device="cpu", constrained=False)
    for one, other in zip(engine.read(radiographs), free.read(radiographs), strict=True):
        assert_same(one, other)


def test_a_batch_of_random_weights_answers_as_single_images_do(tmp_path: Path) -> None:
    """Random weights never end an answer early and say what no training taught: padding has to be exact."""
    save_tiny_model(tmp_path / "model", seed=2)
    engine = Engine.load(tmp_path / "model", device="cpu")
    images = [noise(300, 200, 1), noise(224, 224, 2), noise(90, 400, 3)]
    answers = [reading.answers for reading in engine.read(images)]
    assert answers == [engine.read([image])[0].answers for image in images]
    assert len({answer[IDENTIFY] for answer in answers} | {answer[VQA] for answer in answers}) > 1


@pytest.mark.parametrize("constrained", [True, False])
def test_answers_are_those_of_transformers_generate(
    shipped: Engine, radiographs: list[Radiograph], constrained: bool
) -> None:
    """One prompt at a time without any padding, by the library's own greedy loop."""
    engine = shipped if constrained else Engine.load("phantom", device="cpu", constrained=False)
    loaded = LiteGPT.from_pretrained("phantom")
    readings = engine.read(radiographs)
    for radiograph, reading in zip(radiographs, readings, strict=True):
        image = loaded.model.image_embeddings(loaded.config.preprocessing([radiograph]))
        for tag in (IDENTIFY, VQA):
            prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag])
            ids = loaded.model.language_model.generate(
                inputs_embeds=loaded.model.embed_prompt(image, prompt),
                max_new_tokens=loaded.config.max_new_tokens,
                do_sample=False,
            )
            assert loaded.tokenizer.decode(ids[0], skip_special_tokens=True) == reading.answers[tag]


def test_random_weights_decode_freely_as_transformers_generate_does(tmp_path: Path) -> None:
    """Answers that no training shaped, to the length limit, in a batch of unequal prompts."""
    save_tiny_model(tmp_path / "model", seed=3)
    engine = Engine.load(tmp_path / "model", device="cpu", constrained=False)
    loaded = LiteGPT.from_pretrained(tmp_path / "model")
    images = [noise(300, 200, seed) for seed in range(3)]
    for image, reading in zip(images, engine.read(images), strict=True):
        embedded = loaded.model.image_embeddings(loaded.config.preprocessing([image]))
        for tag in (IDENTIFY, VQA):
            prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag])
            ids = loaded.model.language_model.generate(
                inputs_embeds=loaded.model.embed_prompt(embedded, prompt),
                max_new_tokens=loaded.config.max_new_tokens,
                do_sample=False,
            )[0].tolist()
            eos = loaded.tokenizer.eos_token_id
            ids = ids[: ids.index(eos)] if eos in ids else ids
            assert loaded.tokenizer.decode(ids) == reading.answers[tag]


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_never_answer_malformed(tmp_path: Path, seed: int) -> None:
    save_tiny_model(tmp_path / "model", seed=seed)
    images = [noise(100, 100, number) for number in range(8)]
    for reading in Engine.load(tmp_path / "model", device="cpu").read(images):
        assert reading.malformed == 0 and reading.failure is None
        assert reading.findings
    free = Engine.load(tmp_path / "model", device="cpu", constrained=False).read(images)
    assert any(reading.malformed for reading in free)


def test_numbers_that_break_down_fail_that_image_alone(
    shipped: Engine, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = shipped.read(radiographs[:3])
    model = LiteGPT.from_pretrained("phantom").model

    def broken(images: torch.Tensor) -> torch.Tensor:
        embeddings = model.image_embeddings(images)  # (batch, 49, embedding)
        embeddings[1, 20, 5] = torch.nan
        return embeddings

    for engine in (shipped, Engine.load("phantom", device="cpu", constrained=False)):
        monkeypatch.setattr(engine._answerer._model, "image_embeddings", broken)
        readings = engine.read(radiographs[:3])
        assert readings[1].findings == ()
        assert readings[1].failure == (
            "the model's numbers became NaN or infinite in its answer to [identify] and [vqa]"
        )
        for one, other in ((readings[0], expected[0]), (readings[2], expected[2])):
            assert one.answers == other.answers and one.failure is None


def test_findings_are_what_the_answers_say(shipped: Engine, radiographs: list[Radiograph]) -> None:
    for radiograph, reading in zip(radiographs, shipped.read(radiographs), strict=True):
        rows, columns = radiograph.pixels.shape
        local = read_findings(reading.answers[IDENTIFY]).labels
        overall = read_diagnoses(reading.answers[VQA]).labels
        expected = {
            (read.label, Box.from_grid(read.box, columns, rows)) for read in local if read.box is not None
        }
        assert expected | {(read.label, None) for read in overall} == {
            (finding.label, finding.box) for finding in reading.findings
        }
        for finding in reading.findings:
            assert 0 < finding.score <= 1
            if finding.box is None:
                assert finding.label in DIAGNOSES
            else:
                assert finding.label in LOCAL_LABELS
                assert finding.box.clipped(columns, rows) == finding.box


def test_boxes_come_first_then_diagnoses_in_the_vocabulary_s_order(
    shipped: Engine, radiographs: list[Radiograph]
) -> None:
    for reading in shipped.read(radiographs):
        order = [(finding.box is None, LABELS.index(finding.label)) for finding in reading.findings]
        assert order == sorted(order)


def test_boxes_scale_with_the_matrix(shipped: Engine, radiographs: list[Radiograph]) -> None:
    """The same picture with every pixel repeated gets the same findings, at as many times the coordinates."""
    small = radiographs[next(i for i, file in enumerate(phantom_files()) if "two" in file.name)]
    large = Radiograph(np.kron(small.pixels, np.ones((3, 2), np.uint8)))
    one, other = shipped.read([small])[0], shipped.read([large])[0]
    boxes = [finding.box for finding in one.findings if finding.box is not None]
    assert boxes
    enlarged = [finding.box for finding in other.findings if finding.box is not None]
    for box, big in zip(boxes, enlarged, strict=True):
        doubled = Box(box.x_min * 2, box.y_min * 3, box.x_max * 2, box.y_max * 3)
        assert doubled.iou(big) > 0.85


def test_the_shipped_phantom_names_itself_a_demonstration(shipped: Engine) -> None:
    assert shipped.identity.id == "litegpt-phantom"
    assert shipped.identity.demonstration


def test_nothing_to_read_is_no_reading(shipped: Engine) -> None:
    assert shipped.read([]) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
def test_images_of_odd_shapes_are_read(shipped: Engine, shape: tuple[int, int]) -> None:
    (reading,) = shipped.read([Radiograph(np.full(shape, 128, np.uint8))])
    for finding in reading.findings:
        assert finding.box is None or finding.box.clipped(shape[1], shape[0]) == finding.box


def test_loading_in_several_threads_at_once_gives_the_same_model(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    image = noise(224, 224, 7)
    answers: list[str] = []
    threads = torch.get_num_threads()

    def load_and_read() -> None:
        answers.append(Engine.load(tmp_path / "model", device="cpu").read([image])[0].answers[IDENTIFY])

    workers = [threading.Thread(target=load_and_read) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(answers) == 4 and len(set(answers)) == 1
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32


def test_bfloat16_says_the_same_labels_with_nearly_the_same_scores(
    shipped: Engine, radiographs: list[Radiograph]
) -> None:
    """Its 8 bits of mantissa move an edge by a step or two now and then; rates are in docs/model.md."""
    rounded = Engine.load("phantom", device="cpu", precision="bf16").read(radiographs)
    for radiograph, exact, reading in zip(radiographs, shipped.read(radiographs), rounded, strict=True):
        step = max(radiograph.pixels.shape) / 100
        assert len(exact.findings) == len(reading.findings)
        for one, other in zip(exact.findings, reading.findings, strict=True):
            assert one.label == other.label
            if one.box is not None and other.box is not None:
                edges = zip(dataclasses.astuple(one.box), dataclasses.astuple(other.box), strict=True)
                assert all(abs(edge - moved) <= 3 * step for edge, moved in edges)
        assert reading.label_scores == pytest.approx(exact.label_scores, abs=0.03)


def test_bfloat16_logits_are_those_of_float32_to_three_percent(radiographs: list[Radiograph]) -> None:
    """Of the largest logit, over every token of a teacher-forced answer."""
    logits = {}
    for dtype in (torch.float32, torch.bfloat16):
        loaded = LiteGPT.from_pretrained("phantom", dtype=dtype)
        images = loaded.config.preprocessing(radiographs).to(dtype)  # (batch, 3, 224, 224)
        prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[IDENTIFY])
        text = "Local diseases of this chest radiograph are <p>Consolidation</p> {<55><48><80><71>}."
        answer = torch.tensor([loaded.tokenizer.encode(text, add_special_tokens=False)])
        embedded = loaded.model.image_embeddings(images)
        logits[dtype] = loaded.model.answer_logits(embedded, prompt, answer.expand(len(images), -1)).float()
    exact, rounded = logits[torch.float32], logits[torch.bfloat16]
    assert float((exact - rounded).abs().max() / exact.abs().max()) < 0.03


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ModelError, match="precision 'int3' is not one of fp32, bf16, fp16"):
        Engine.load(precision="int3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(ModelError, match="device cuda was asked for, but PyTorch finds no CUDA device"):
        Engine.load(device="cuda")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        Engine.load(tmp_path / "nowhere")


def test_the_probability_of_a_text_is_the_product_over_its_tokens() -> None:
    #                      "ab" "cd" "" "e"
    generated = Generated("abcde", (2, 4, 4, 5), (0.5, 0.5, 0.9, 0.25))
    assert generated.probability(0, 2) == 0.5
    assert generated.probability(1, 4) == 0.25
    assert generated.probability(4, 5) == 0.25
    assert generated.probability(0, 5) == pytest.approx(0.5 * 0.5 * 0.9 * 0.25)


def test_free_scores_are_the_probabilities_of_teacher_forcing(radiographs: list[Radiograph]) -> None:
    """P(label | all before) = P(text up to the label's end) / P(text up to the end of what went before)."""
    loaded = LiteGPT.from_pretrained("phantom")
    (reading,) = Engine.load("phantom", device="cpu", constrained=False).read(radiographs[:1])
    image = loaded.model.image_embeddings(loaded.config.preprocessing(radiographs[:1]))

    def log_probability(tag: str, text: str) -> float:
        ids = torch.tensor([loaded.tokenizer.encode(text, add_special_tokens=False)])
        prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag])
        logits = loaded.model.answer_logits(image, prompt, ids)
        return float(logits.log_softmax(dim=-1).gather(-1, ids[..., None]).sum())

    expected: dict[str, list[float]] = {}
    for tag, read in ((IDENTIFY, read_findings), (VQA, read_diagnoses)):
        text = reading.answers[tag]
        for label in read(text).labels:
            ratio = log_probability(tag, text[: label.end]) - log_probability(tag, text[: label.start])
            expected.setdefault(label.label, []).append(math.exp(ratio))
    found: dict[str, list[float]] = {}
    for finding in reading.findings:
        found.setdefault(finding.label, []).append(finding.score)
    assert found.keys() == expected.keys()
    for name, scores in found.items():
        assert sorted(scores) == pytest.approx(sorted(expected[name]), abs=1e-4)


def test_images_are_loaded_ahead_and_come_back_in_order_with_what_could_not_be_loaded(
    shipped: Engine, radiographs: list[Radiograph]
) -> None:
    broken = {1: RadiographError("no pixels"), 4: FileNotFoundError("gone")}

    def load(number: int) -> Radiograph:
        if number in broken:
            raise broken[number]
        return radiographs[number]

    reads = list(shipped.read_ahead(range(len(radiographs)), load))
    assert [read.item for read in reads] == list(range(len(radiographs)))
    expected = shipped.read([radiograph for i, radiograph in enumerate(radiographs) if i not in broken])
    for read in reads:
        if read.item in broken:
            assert read.came is broken[read.item]
        else:
            assert isinstance(read.came, Reading)
            assert_same(read.came, expected.pop(0))


def test_what_loading_did_not_expect_is_not_hidden(shipped: Engine) -> None:
    def load(_: int) -> Radiograph:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(shipped.read_ahead([1], load))


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load("phantom", device="cpu")
    expected = engine.read(radiographs)
    sizes, answer = [], engine._answerer.answer

    def short_of_memory(images: list[torch.Tensor], *, candidates: bool) -> list[Answered]:
        sizes.append(len(images[0]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(images, candidates=candidates)

    monkeypatch.setattr(engine._answerer, "answer", short_of_memory)
    readings = engine.read(radiographs)
    assert sizes == [8, 4, 2, 2, 2, 2] and engine.batch_size == 2
    for one, other in zip(readings, expected, strict=True):
        assert_same(one, other)


def test_one_image_that_does_not_fit_is_an_error(
    radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load("phantom", device="cpu")

    def no_memory(images: list[torch.Tensor], *, candidates: bool) -> list[Answered]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._answerer, "answer", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        engine.read(radiographs[:2])
