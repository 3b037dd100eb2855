"""A model leaves cores to the decoders, unless it is told how many it may use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from litegpt.cores import usable_cores

_TELLS = """
import sys
from pathlib import Path

import torch

from service.settings import settings_without_sources
from worker.engines import configure_process

configure_process(settings_without_sources(data_dir=Path(sys.argv[1]), model_threads=eval(sys.argv[2])))
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(("told", "threads"), [(None, max(1, usable_cores() // 2)), (1, 1), (3, 3)])
def test_threads_of_a_worker(told: int | None, threads: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TELLS, str(tmp_path), repr(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "64"})
    assert int(done.stdout) == threads
