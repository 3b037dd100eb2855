"""The training benchmark, tried out in a minute: every part is there and adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    out = tmp_path_factory.mktemp("benchmark") / "result.json"
    few = ("--model", "small", "--images", "8", "--steps", "1", "--rounds", "2", "--threads", "1")
    command = [sys.executable, "benchmarks/training.py", *few, "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == json.loads(out.read_text())
    assert "display images" in ended.stderr
    loaded: dict[str, list[dict[str, object]]] = json.loads(out.read_text())
    return loaded


def test_it_measures_three_ways_in_parts_that_add_up(result: dict[str, list[dict[str, object]]]) -> None:
    (model,) = result["models"]
    ways = model["ways"]
    assert isinstance(ways, list) and len(ways) == 3
    for way in ways:
        assert set(way["parts"]) == {"data", "encode", "learn", "update"}
        sums = [sum(parts) for parts in zip(*way["rounds"].values(), strict=True)]
        assert way["step_seconds"] == pytest.approx(sum(sums) / 2)  # the median of two
        shares = [parts[1] / sum(parts) for parts in zip(*way["rounds"].values(), strict=True)]
        assert way["encoders_share"] == pytest.approx(sum(shares) / 2)
        assert way["images_per_second"] == pytest.approx(4 / way["step_seconds"])


def test_its_limit_is_the_arithmetic(result: dict[str, list[dict[str, object]]]) -> None:
    (model,) = result["models"]
    flops, limit = model["flops_per_image"], model["limit_images_per_second"]
    assert isinstance(flops, float) and isinstance(limit, float)
    assert flops > 1e6 and limit > 0
    assert result["command"] and result["machine"]
