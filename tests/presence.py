"""What a test needs from the machine: there, or the test skips (and fails in CI, where it must be there)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

RADIOGRAPHS = Path(__file__).resolve().parents[1].parent / "shared" / "radiographs"
"""Real radiographs that are not part of the project."""

_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


def absent(reason: str) -> NoReturn:
    """Skips the test for ``reason``; in CI, where nothing may be missing, fails it."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, *, package: str) -> str:
    """Path of a program, or :func:`absent` with the Debian package that holds it."""
    return find_program(name) or absent(f"{name} is not installed (Debian package {package})")


def find_program(name: str) -> str | None:
    """Path of a program; also of PostgreSQL's, which Debian keeps off the PATH."""
    folders = [os.environ.get("PATH", os.defpath), *_MORE_FOLDERS]
    folders += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join(folders))


def real_radiographs() -> list[Path]:
    """The seven real radiographs; skips where the folder beside the project does not exist.

    They are never required, in CI either: the project must pass its tests from its own repository.
    """
    files = sorted(RADIOGRAPHS.glob("*.dcm"))
    if not files:
        pytest.skip("no ../shared/radiographs beside the project: real radiographs are not part of it")
    return files
