"""The first minute with the project: what ``make`` checks and says before it downloads anything."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PREFLIGHT = ROOT / "tools" / "preflight.py"


@pytest.fixture
def preflight() -> ModuleType:
    spec = importlib.util.spec_from_file_location("preflight", PREFLIGHT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_can_run_the_preflight() -> None:
    ast.parse(PREFLIGHT.read_text(), feature_version=(3, 6))


def test_it_says_what_it_will_download(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, PREFLIGHT, tmp_path / ".venv"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "GB to download" in said.stdout
    assert "minutes" in said.stdout


def test_an_old_python_is_refused_in_one_line(preflight: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "OLDEST_PYTHON", (99, 0))
    (line,) = preflight.missing_python()
    assert "99.0" in line
    assert sys.executable in line


def test_a_full_disk_is_refused_in_one_line(preflight: ModuleType, tmp_path: Path) -> None:
    lines = preflight.missing_disk(tmp_path, 10**18, 0)
    assert len(lines) == 1
    assert "1000000000.0 GB of free disk are needed" in lines[0]
    assert preflight.missing_disk(tmp_path, 0, 0) == []


def test_make_stops_before_it_makes_anything(tmp_path: Path) -> None:
    refused = subprocess.run(
        ["make", "setup", "PYTHON=/bin/false", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert not (tmp_path / "venv").exists()


def test_help_lists_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    for target in ("setup", "demo", "up", "test", "lint", "clean"):
        assert f"make {target} " in said.stdout
