"""Two processes that train together (DDP over gloo) do what one does alone."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import torch

from training.run_folder import RunFolder, RunState


def trained_by(processes: int, out: Path) -> RunState:
    """The state after the run of ``tests.training.ddp_run``."""
    out.mkdir()
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "tests.training.ddp_run", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    state = RunFolder(out).state()
    assert state is not None
    return state


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    one, two = (trained_by(count, tmp_path / str(count)) for count in (1, 2))
    assert (one.step, one.images) == (two.step, two.images) == (4, 16)
    for name, tensor in one.trained.items():
        torch.testing.assert_close(two.trained[name], tensor, atol=2e-5, rtol=1e-3, msg=name)
    logs = []
    for count in (1, 2):
        with (tmp_path / str(count) / "log.csv").open() as file:
            logs.append([row["loss"] or row["validation_loss"] for row in csv.DictReader(file)])
    assert [round(float(a), 2) for a in logs[0]] == [round(float(b), 2) for b in logs[1]]
