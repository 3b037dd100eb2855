"""The code of a release, out of the history of this clone."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.presence import absent

_ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("litegpt", "service", "worker", "migrations", "tests")


def unpack(commit: str, folder: Path) -> Path:
    """Unpacks what a node of that commit runs; skips where the clone has no such commit."""
    known = subprocess.run(["git", "cat-file", "-e", commit], cwd=_ROOT, capture_output=True)
    if known.returncode != 0:
        absent(f"this clone has no commit {commit[:7]}: it was made without the history")
    archive = subprocess.run(
        ["git", "archive", commit, *_PARTS], cwd=_ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder
