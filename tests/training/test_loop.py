"""The loop: what each stage may change, that it learns, repeats, stops and goes on, never blindly."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from litegpt.model_folder import LiteGPT
from tests.litegpt.tiny_models import save_tiny_model, tiny_model
from tests.training.recipes import ignore, new_run, parts, short
from training.batches import Teaching, make_batch
from training.course import Course
from training.errors import TrainingError
from training.learner import Learner
from training.lessons import Lesson
from training.phantom_course import phantom_course
from training.phantom_model import train_phantom_model
from training.recipe import Recipe
from training.report.training_log import read_training_log
from training.run_folder import RunFolder
from training.stage import train_stage
from training.training_log import Progress


@pytest.mark.parametrize(
    ("recipe", "adapter", "changed"),
    [
        (short("encoders"), False, {"encoders"}),
        (short("pretraining"), False, {"encoders", "projection", "language model"}),
        (short("grounding"), True, {"projection", "adapter"}),
        (short("diagnosis"), True, {"projection", "adapter"}),
        (short("mixture"), True, {"projection", "adapter"}),
        (short("grounding", trains=["encoders", "adapter"]), True, {"encoders", "adapter"}),
    ],
    ids=lambda value: value.stage if isinstance(value, Recipe) else None,
)
def test_a_stage_changes_its_parts_only(
    recipe: Recipe, adapter: bool, changed: set[str], tmp_path: Path
) -> None:
    loaded = tiny_model(has_adapter=adapter)
    before = parts(loaded)
    assert new_run(loaded, recipe, tmp_path).train(report=ignore)
    after = parts(loaded)
    differing = {
        part for part in before if any(not torch.equal(after[part][n], before[part][n]) for n in before[part])
    }
    assert differing == changed


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = short("pretraining", steps_per_epoch=100, validate_every_steps=100, checkpoint_every_steps=100)
    loaded = tiny_model(has_adapter=False)
    run = new_run(loaded, recipe.with_values({"optimiser.peak": 3e-3}), tmp_path)
    run.train(report=lambda progress: losses.append(progress.losses["vqa"]))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


STAGES = [
    short("pretraining", steps_per_epoch=5),
    short("grounding", steps_per_epoch=5, accumulation=2, data__by_length=True),
    short("mixture", steps_per_epoch=5, gradient_checkpointing=True, tasks__vqa__instructions="pool"),
]


@pytest.mark.parametrize("recipe", STAGES, ids=lambda recipe: recipe.stage)
def test_a_run_that_was_killed_goes_on_to_the_very_same_bits(recipe: Recipe, tmp_path: Path) -> None:
    adapter = "adapter" in recipe.trains
    whole = tiny_model(has_adapter=adapter)
    new_run(whole, recipe, tmp_path / "whole").train(report=ignore)

    class KilledError(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 4:  # the checkpoint before was of step 2
            raise KilledError

    with pytest.raises(KilledError):
        new_run(tiny_model(has_adapter=adapter), recipe, tmp_path / "killed").train(report=kill)
    state = RunFolder(tmp_path / "killed").state()
    assert state is not None and state.step == 2

    seen: list[int] = []
    again = tiny_model(has_adapter=adapter)
    run = new_run(again, recipe, tmp_path / "killed", resume=True)
    run.train(report=lambda progress: seen.append(progress.step))
    assert seen == [3, 4, 5]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    states = [RunFolder(tmp_path / name).state() for name in ("whole", "killed")]
    assert states[0] is not None and states[1] is not None
    assert states[0].best_loss == states[1].best_loss


def test_a_stopped_run_saves_its_step_and_a_finished_one_does_nothing_more(tmp_path: Path) -> None:
    recipe = short("grounding", checkpoint_every_steps=100)
    assert not new_run(tiny_model(), recipe, tmp_path).train(report=ignore, stop=lambda: True)
    state = RunFolder(tmp_path).state()
    assert state is not None and state.step == 1
    assert new_run(tiny_model(), recipe, tmp_path, resume=True).train(report=ignore)
    seen: list[Progress] = []
    assert new_run(tiny_model(), recipe, tmp_path, resume=True).train(report=seen.append)
    assert not seen


def test_another_recipe_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    new_run(tiny_model(), short("grounding"), tmp_path)
    with pytest.raises(TrainingError, match="--resume goes on with it"):
        new_run(tiny_model(), short("grounding"), tmp_path)
    with pytest.raises(TrainingError, match="another recipe: batch_size differ"):
        new_run(tiny_model(), short("grounding", batch_size=2), tmp_path, resume=True)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    recipe = short("grounding")
    new_run(tiny_model(), recipe, tmp_path).train(report=ignore)
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"state\.pt is damaged"):
        new_run(tiny_model(), recipe, tmp_path, resume=True).train(report=ignore)


def test_the_log_has_one_row_a_mean_and_one_a_validation(tmp_path: Path) -> None:
    new_run(tiny_model(), short("grounding"), tmp_path).train(report=ignore)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], bool(row["loss"]), bool(row["validation_loss"])) for row in rows] == [
        ("2", False, True),
        ("3", True, False),
        ("3", False, True),
    ]
    assert any((tmp_path / "tensorboard").iterdir())


def test_the_best_model_is_that_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    """With a rate that ruins the model, the best is not the last."""
    recipe = short("grounding", steps_per_epoch=2, validate_every_steps=1, precision="fp32")
    loaded = tiny_model()
    run = new_run(loaded, recipe.with_values({"optimiser.peak": 30.0}), tmp_path)
    run.train(report=ignore)
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
    assert losses[-1] > min(losses)
    lessons = phantom_course(loaded, recipe).validation
    assert lessons is not None
    batch = make_batch([lessons[index] for index in range(4)], Teaching.of(loaded, recipe))
    for name, expected in (("best", min(losses)), ("last", losses[-1])):
        learner = Learner(LiteGPT.from_pretrained(tmp_path / name, merge=False), recipe)
        # Model folders hold weights in float16.
        assert float(learner.weighted(learner(batch, 0))) == pytest.approx(expected, rel=2e-2)


class BrokenLessons(Sequence[Lesson]):
    """Lessons whose encoder tokens are no numbers."""

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        self._lessons = lessons
        self.lengths = [1] * len(lessons)
        self.label_sets: list[frozenset[str]] = []

    def __len__(self) -> int:
        return len(self._lessons)

    def __getitem__(self, index: int) -> Lesson:  # type: ignore[override]
        tokens = torch.full((245, 16), float("nan")).numpy()
        return replace(self._lessons[index], squares=(), tokens=tokens)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    loaded, recipe = tiny_model(), short("grounding")
    width = loaded.model.projection.fc1.in_features // loaded.model.projection.group
    assert width == 16
    phantoms = phantom_course(loaded, recipe).lessons
    broken = BrokenLessons([phantoms[index] for index in range(8)])
    before = parts(loaded)
    with pytest.raises(
        TrainingError, match=r"loss of stage grounding is no number any more at step 0.*bad_batch"
    ):
        new_run(loaded, recipe, tmp_path, course=Course(broken, workers=0)).train(report=ignore)
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert kept["step"] == 0 and len(kept["names"]) == 4 and kept["tokens"].isnan().all()
    torch.testing.assert_close(parts(loaded), before)


def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="batch_size: 4 cannot be split into 3"):
        short("grounding", accumulation=3)


def test_an_adapter_stage_keeps_what_the_model_folder_says(tmp_path: Path) -> None:
    saved = save_tiny_model(tmp_path / "start")
    train_stage(tmp_path / "run", short("grounding"), start=tmp_path / "start", device="cpu", report=ignore)
    end = LiteGPT.from_pretrained(tmp_path / "run" / "last", merge=False)
    assert end.config == replace(saved.config, ordered_answers=True)
    torch.testing.assert_close(parts(end)["language model"], parts(saved)["language model"])


def test_a_stage_starts_from_an_earlier_run_and_takes_a_version_and_instructions(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    train_stage(tmp_path / "one", short("grounding"), start=tmp_path / "start", device="cpu", report=ignore)
    text = "[grounding] say what you see."
    recipe = short("diagnosis", tasks__identify__instructions=text)
    train_stage(tmp_path / "two", recipe, start=tmp_path / "one", version="7", device="cpu", report=ignore)
    end = LiteGPT.from_pretrained(tmp_path / "two" / "last")
    assert end.config.identity.version == "7"
    assert end.config.instructions["identify"] == text


def test_the_whole_chain_goes_on_where_it_stopped(tmp_path: Path) -> None:
    seen: list[Progress] = []
    stopped = train_phantom_model(
        tmp_path, factor=0, version="0.0", report=seen.append, stop=lambda: seen[-1].stage == "pretraining"
    )
    # One step a stage: that was the stage's last, and so it is finished all the same.
    assert stopped is not None or {one.stage for one in seen} == {"encoders", "pretraining"}
    folder = train_phantom_model(tmp_path, factor=0, version="0.0", report=seen.append)
    assert [one.stage for one in seen] == ["encoders", "pretraining", "grounding", "diagnosis"]
    assert folder == tmp_path / "diagnosis"
    loaded = LiteGPT.from_pretrained(folder / "last")
    assert loaded.config.has_adapter and loaded.config.identity.demonstration
    log = read_training_log(tmp_path / "training_log.csv")
    assert [stage for stage, _ in log.stages] == ["encoders", "pretraining", "grounding", "diagnosis"]
    assert log.progress[-1] == 4 and "vqa" in log.losses
