"""The benchmark as a person runs it, on two images."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.inference import app

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "inference.py"
STAGES = {"preprocess", "encode", "generate", "parse", "rest"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), *map(str, arguments), "--threads", "1"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # Started elsewhere: it finds what it needs by where it lies.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=280, cwd="/", env=environment
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    out = tmp_path_factory.mktemp("benchmark") / "result.json"
    sizes = "--images", 2, "--rounds", 2, "--batches", "1,8", "--answer-tokens", 14, "--prompt-tokens", 70
    ended = run(*sizes, "--model", "phantom", "--model", "small", "--device", "cpu", "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == json.loads(out.read_text())
    return json.loads(ended.stdout), ended.stderr


def test_it_says_where_and_how_it_was_measured(measured: tuple[dict[str, Any], str]) -> None:
    result, _ = measured
    assert result["command"].startswith("python benchmarks/inference.py --images 2")
    assert {"processor", "cores", "threads", "gpu", "torch"} <= result["machine"].keys()
    assert result["machine"]["threads"] == 1
    assert result["interrupted"] is False
    assert all(comparison["device"] == "cpu" for comparison in result["comparisons"])
    assert all(len(comparison["load_average"]) == 2 for comparison in result["comparisons"])


def test_everybody_was_measured_at_every_batch(measured: tuple[dict[str, Any], str]) -> None:
    phantom, small = measured[0]["comparisons"]
    who = [(entry["who"], entry["batch"]) for entry in phantom["entries"]]
    names = "litegpt", "litegpt, free", "generate"
    assert who == [(name, batch) for batch in (1, 2) for name in names]  # 8 is cut to 2 images
    assert [(entry["who"], entry["batch"]) for entry in small["entries"]] == [
        ("generate", 4),
        ("litegpt", 1),
        ("litegpt", 2),
    ]


def test_the_figures_fit_together(measured: tuple[dict[str, Any], str]) -> None:
    for comparison in measured[0]["comparisons"]:
        for entry in comparison["entries"]:
            rates = entry["images_per_second"]
            assert 0 < rates["least"] <= rates["median"] <= rates["most"]
            assert len(rates["rounds"]) == 2
            tokens_an_image = entry["answer_tokens"] / entry["images"]
            for images, tokens in zip(rates["rounds"], entry["tokens_per_second"]["rounds"], strict=True):
                assert tokens == pytest.approx(images * tokens_an_image)
            split = entry["milliseconds_an_image"]
            assert split.keys() >= STAGES
            assert all(part >= 0 for part in split.values())
            # The median of two is their mean, and so the parts' add up to the whole's.
            whole = fmean(1000 / images for images in rates["rounds"])
            assert sum(split.values()) == pytest.approx(whole)
            assert entry["memory_bytes"] > 100e6
            assert all(limit["reached"] > 0 for limit in entry["limits_images_per_second"].values())


def test_the_phantom_gives_the_same_answers_either_way(measured: tuple[dict[str, Any], str]) -> None:
    phantom = measured[0]["comparisons"][0]
    ours, free, rival, *_ = phantom["entries"]
    assert ours["same_answers"] == free["same_answers"] == [2, 2]
    assert free["answer_tokens_with_a_step_of_their_own"] == free["answer_tokens"] == ours["answer_tokens"]
    assert ours["answer_tokens"] == rival["answer_tokens"] == rival["answer_tokens_with_a_step_of_their_own"]
    assert ours["answer_tokens_with_a_step_of_their_own"] < ours["answer_tokens"]
    assert ours["times_as_fast"]["as"] == "generate"
    assert ours["flops_an_image"] < rival["flops_an_image"]  # each image is encoded once instead of twice


def test_forced_answers_have_the_length_asked_for(measured: tuple[dict[str, Any], str]) -> None:
    small = measured[0]["comparisons"][1]
    assert [entry["answer_tokens"] for entry in small["entries"]] == [4 * 28, 2 * 28, 2 * 28]
    assert small["published_limits"].keys() == {"1", "32", "128", "512"}


def test_the_tables_are_markdown(measured: tuple[dict[str, Any], str]) -> None:
    lines = measured[1].splitlines()
    rows = [line for line in lines if re.match(r"\| (litegpt|generate)", line)]
    assert len(rows) == 2 * (6 + 3)
    assert not any("…" in row for row in rows)


def test_ctrl_c_leaves_what_was_measured() -> None:
    arguments = "--images", 1, "--batches", 1, "--rounds", 100, "--model", "phantom"
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            if "measuring: 20 of" in line:
                break
        process.send_signal(signal.SIGINT)
        result = json.loads(process.stdout.read())
        assert "Interrupted" in process.stderr.read()
    assert process.returncode == 130
    assert result["interrupted"] is True
    entry = result["comparisons"][0]["entries"][0]
    assert 10 <= len(entry["images_per_second"]["rounds"]) < 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batches", "1,x"), "not a list such as"),
        (("--batches", "0"), "not a list such as"),
        (("--radiographs", str(ROOT / "benchmarks")), "__init__.py"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(arguments: tuple[str, str], said: str) -> None:
    ended = CliRunner().invoke(app, ["--images", "1", *arguments], env={"COLUMNS": "200"})
    assert ended.exit_code == 2
    assert said in ended.stderr
