"""An evaluation of the shipped model on a few phantoms, and made-up readings of more images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from litegpt.engine import Engine
from tests.training.evaluation.random_cases import random_cases
from training.evaluation.examination import Examination
from training.evaluation.journal import Examined, Journal, read_readings, run_of
from training.evaluation.measured_run import MeasuredRun
from training.evaluation.phantoms import phantom_subjects


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``litegpt-train evaluate --out`` leaves it."""
    folder = tmp_path_factory.mktemp("evaluated")
    run = run_of("phantom", "fresh phantoms", "seed 31337", "as drawn")
    with Journal(folder, run) as journal:
        list(Examination(Engine.load("phantom"), journal, pictures=True).of(phantom_subjects(6, 31337)))
    MeasuredRun.of(run, read_readings(folder), resamples=10).write(folder)
    return folder


def made_up(seed: int, images: int = 40) -> list[Examined]:
    """Readings that are right about some of their images."""
    cases, readings = random_cases(np.random.default_rng(seed), images)
    return [
        Examined(f"image-{number:03d}", None, None, case, reading)
        for number, (case, reading) in enumerate(zip(cases, readings, strict=True))
    ]
