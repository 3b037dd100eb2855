"""One of several processes that train together: ``torchrun … -m tests.training.ddp_run OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.litegpt.tiny_models import tiny_model
from tests.training.equal_lessons import EqualLessons
from tests.training.recipes import ignore, short
from training.course import Course
from training.loop import Run
from training.phantom_course import phantom_course
from training.run_folder import RunFolder


def main(out: Path) -> None:
    """Trains four steps; the first process writes the run's folder."""
    torch.set_num_threads(1)
    loaded, recipe = tiny_model(), short("diagnosis", steps_per_epoch=4, precision="fp32", seed=3)
    recipe = recipe.with_values({"tasks": {"vqa": {}}})
    for module in loaded.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # each process draws its own
    course = phantom_course(loaded, recipe)
    lessons = EqualLessons(course.lessons)
    run = Run(loaded, recipe, Course(lessons, lessons, workers=0), RunFolder(out), device="cpu")
    run.train(report=ignore)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
