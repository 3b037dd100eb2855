"""What the images are built of: pinned versions, and the bill of materials made of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ROLES = {"service": (), "worker": ("worker",)}


def _pins(role: str) -> dict[str, str]:
    lines = (ROOT / "deploy" / "pins" / f"{role}.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    odd = [line for line in named if not re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.+!]+", line)]
    assert not odd, "a pin is a name and a version, no address and no option"
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in named)}


@pytest.mark.parametrize("role", ROLES)
def test_every_direct_dependency_is_pinned_within_its_bounds(role: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"]]
    for extra in ROLES[role]:
        texts += project["optional-dependencies"][extra]
    pins = _pins(role)
    for requirement in map(Requirement, texts):
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}: make pins"


def test_a_version_is_the_same_in_both_images() -> None:
    service, worker = _pins("service"), _pins("worker")
    assert service.items() <= worker.items()


def test_the_service_has_no_torch() -> None:
    assert not {"torch", "transformers", "highdicom"} & _pins("service").keys()


@pytest.mark.parametrize("role", ROLES)
def test_the_bill_of_materials_names_every_pin(role: str, tmp_path: Path) -> None:
    bill = tmp_path / "sbom.json"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "cyclonedx_py",
        "requirements",
        f"deploy/pins/{role}.txt",
    ]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", bill]
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    told = json.loads(bill.read_text(encoding="utf-8"))
    assert told["bomFormat"] == "CycloneDX"
    assert told["metadata"]["component"]["name"] == "litegpt-node"
    assert {canonicalize_name(one["name"]): one["version"] for one in told["components"]} == _pins(role)
