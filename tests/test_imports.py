"""The service needs neither PyTorch nor anything else that only a worker's installation has."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import migrations
import service
from tests.dependencies import blocker, packages_outside, runtime_distributions

TORCH_FREE = [
    "vocabulary",
    "boxes",
    "findings",
    "identity",
    "checksums",
    "inspection",
    "operating_point",
    "radiograph",
    "overlay",
    "phantoms",
    "errors",
]


def _service_modules() -> list[str]:
    found = pkgutil.walk_packages(service.__path__, "service.")
    return ["service", *(module.name for module in found)]


def _fresh_interpreter(source: str) -> str:
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _loaded_after_importing(*modules: str) -> set[str]:
    source = "\n".join(f"import {module}" for module in modules)
    return set(
        json.loads(_fresh_interpreter(f"{source}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"))
    )


def test_the_service_never_loads_torch() -> None:
    loaded = _loaded_after_importing(*_service_modules())
    assert "service.wire.listener" in loaded
    heavy = {"torch", "torchvision", "transformers", "peft", "open_clip", "timm", "highdicom"}
    assert heavy & {name.partition(".")[0] for name in loaded} == set()


@pytest.mark.parametrize("room", TORCH_FREE)
def test_the_torch_free_rooms_of_litegpt_are(room: str) -> None:
    assert "torch" not in _loaded_after_importing(f"litegpt.{room}")


def test_the_service_imports_with_its_own_dependencies_alone() -> None:
    modules = [*_service_modules(), *(f"litegpt.{room}" for room in TORCH_FREE)]
    imports = "\n".join(f"import {module}" for module in modules)
    _fresh_interpreter(f"{blocker()}\n{imports}")


def test_the_blocker_blocks() -> None:
    assert {"torch", "transformers", "highdicom", "pytest"} <= packages_outside()
    assert {"pydicom", "celery", "sqlalchemy", "service"}.isdisjoint(packages_outside())
    assert "torch" in runtime_distributions(["worker"])
    with pytest.raises(AssertionError, match="blocked by a test"):
        _fresh_interpreter(f"{blocker()}\nimport torch")


def test_the_command_line_works_where_no_worker_is_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(blocker())
    program = Path(sys.executable).with_name("litegpt-node")
    ended = subprocess.run(
        [program, "--help"],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    for command in ("up", "listen", "sweep", "migrate", "check", "studies", "show", "health"):
        assert command in ended.stdout


def test_migrations_are_part_of_the_package() -> None:
    assert list(Path(migrations.__path__[0]).glob("versions/*.py"))
