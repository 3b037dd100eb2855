"""``litegpt-node import`` as a real process, and what is in the node then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from sqlalchemy import select

from service.eligibility import Eligibility
from service.importing.foresight import Foresight
from service.importing.importer import Imported, Importer
from service.importing.sources import find
from service.records.database import Records
from service.records.intake import Receiver
from service.records.tables import Instance
from tests.worker.conftest import SmallNode

COMMAND: Final = [sys.executable, "-m", "service.cli.main", "import"]
ENVIRONMENT: Final = {"LITEGPT_MINIMUM_FREE_BYTES": "0"}


def run_import(
    folder: Path, *arguments: str | Path, before: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command in ``folder``, whose ``node-data`` is the node."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=before,
    )


def counts_of(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """What the command counts, as JSON, without what it lists."""
    said: dict[str, Any] = json.loads(run_import(folder, "--json", *arguments).stdout)
    return {name: value for name, value in said.items() if name not in ("listed", "dry_run")}


def save(dataset: Dataset, path: Path) -> Path:
    """Writes a Part 10 file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def stored(records: Records) -> list[str]:
    """The SOP Instance UIDs of what the node has, sorted."""
    with records.reading() as session:
        return sorted(session.scalars(select(Instance.sop_instance_uid)))


def take_all(node: SmallNode, *paths: Path, dry_run: bool = False) -> list[Imported]:
    """Takes everything under the paths, in this process."""
    receiver = Receiver(node.records, node.archive, Eligibility.of(node.settings))
    with Foresight(receiver) as foresight:
        importer = Importer(receiver, 0, foresight if dry_run else None)
        return [importer.take(found) for found in find(paths, node.archive.root)]


def outcomes(imported: Iterable[Imported]) -> list[str]:
    """What became of each, in order."""
    return [one.outcome for one in imported]
