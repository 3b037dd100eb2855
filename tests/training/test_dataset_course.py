"""A dataset of files as lessons, and a stage trained on it by the command."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from litegpt.boxes import Box
from litegpt.preprocessing import squash
from tests.litegpt.tiny_models import save_tiny_model, tiny_model
from tests.training.recipes import short
from training.batches import Teaching, make_batch
from training.cli import app
from training.dataset_course import DatasetCourse
from training.datasets.pictures import read_image
from training.errors import TrainingError
from training.learner import Learner
from training.phantom.collection import fresh_phantoms, write_collection
from training.splits import is_held_back

IMAGES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantoms")
    list(write_collection(fresh_phantoms(IMAGES, 21), path))
    return path


def write_lines(folder: Path, items: Sequence[dict[str, Any]]) -> Path:
    file = folder / "images.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


def test_its_lessons_are_the_truth_beside_the_files(folder: Path, tmp_path: Path) -> None:
    loaded, recipe = tiny_model(), short("mixture", data__validation_share=0.3)
    course = DatasetCourse("phantom", folder, tmp_path)(loaded, recipe)
    truth = {item["file"]: item for item in json.loads((folder / "truth.json").read_text())}
    held_back = {name for name, item in truth.items() if is_held_back(item["study"], 0.3)}
    assert course.validation is not None and held_back
    for lessons, names in ((course.lessons, truth.keys() - held_back), (course.validation, held_back)):
        taught = [lessons[index] for index in range(len(lessons))]
        assert {lesson.name for lesson in taught} == names
        for lesson in taught:
            item = truth[lesson.name]
            radiograph = read_image(folder / lesson.name)
            expected = squash(loaded.preprocessings, radiograph).squares[0]
            assert np.array_equal(lesson.squares[0], expected)
            assert lesson.diagnoses == set(item["diagnoses"])
            found = {(label, box.to_grid(1, 1)) for label, box in lesson.boxes}
            size = (item["columns"], item["rows"])
            assert found == {(one["label"], Box(*one["box"]).to_grid(*size)) for one in item["findings"]}


def test_cached_tokens_teach_what_the_images_do(folder: Path, tmp_path: Path) -> None:
    loaded = tiny_model()
    losses = []
    for kept in (False, True):
        recipe = short("mixture", precision="fp32", data__cache_tokens=kept)
        lessons = DatasetCourse("phantom", folder, tmp_path)(loaded, recipe).lessons
        batch = make_batch([lessons[index] for index in range(6)], Teaching.of(loaded, recipe))
        assert (batch.tokens is not None) is kept and bool(batch.squares) is not kept
        losses.append(Learner(loaded, recipe)(batch, 0))
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=0)


def test_what_cannot_teach_a_prompt_is_left_out_and_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"phantom-21-{number:05d}.dcm" for number in range(1, 6)]
    file = write_lines(
        folder,
        [
            {"image": names[0], "patient": "a", "labels": [{"label": "No finding"}]},
            {"image": names[1], "patient": "b", "labels": [{"label": "Edema"}, {"label": "Other disease"}]},
            {"image": names[2], "patient": "c", "findings": [{"label": "Edema", "box": [90, 90, 200, 200]}]},
            {"image": names[3], "patient": "d", "judged": ["Edema"], "labels": [{"label": "Edema"}]},
            {"image": "gone.dcm", "patient": "e", "labels": [{"label": "No finding"}]},
        ],
    )
    taught = {}
    for stage, tag in (("grounding", "identify"), ("diagnosis", "vqa")):
        recipe = short(stage, tasks={tag: {}}, data__validation_share=0)
        with caplog.at_level(logging.WARNING):
            lessons = DatasetCourse("jsonl", file, tmp_path)(tiny_model(), recipe).lessons
        taught[tag] = {lessons[index].name for index in range(len(lessons))}
    assert taught == {"identify": {names[0], names[2]}, "vqa": {names[0], names[1]}}
    for words in (
        "a finding has no box",
        "nobody looked for diagnoses",
        "no diagnosis was given",
        "missing-image",
    ):
        assert words in caplog.text


def test_nothing_to_learn_from_is_said(folder: Path, tmp_path: Path) -> None:
    file = write_lines(folder, [{"image": "phantom-21-00001.dcm", "judged": ["Edema"]}])
    recipe = short("diagnosis", tasks={"vqa": {}})
    with pytest.raises(TrainingError, match="no image is left to learn from"):
        DatasetCourse("jsonl", file, tmp_path)(tiny_model(), recipe)


def test_a_stage_learns_from_a_dataset_by_command_and_goes_on(folder: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    command = [
        *("grounding", "--from", tmp_path / "start", "--out", tmp_path / "run", "--device", "cpu"),
        *("--dataset", "phantom", "--data", folder, "--cache", tmp_path / "cache", "--workers", "0"),
        *("--set", "batch_size=4", "--set", "steps_per_epoch=2", "--set", "data.sampler=balanced"),
    ]
    runner = CliRunner()
    result = runner.invoke(app, [str(part) for part in command])
    assert result.exit_code == 0, result.output
    assert f"The model is {tmp_path / 'run' / 'last'}" in result.output
    again = runner.invoke(app, [*map(str, command), "--resume"])
    assert again.exit_code == 0, again.output
    other = runner.invoke(
        app, [str(part) for part in command if part not in ("--dataset", "--data", folder, "phantom")]
    )
    assert other.exit_code != 0
    half = runner.invoke(app, [str(part) for part in command if part not in ("--data", folder)])
    assert isinstance(half.exception, TrainingError) and "give both" in str(half.exception)
