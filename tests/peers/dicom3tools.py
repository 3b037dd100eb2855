"""dicom3tools' dciodvfy: what is wrong with an object, by its IOD."""

from __future__ import annotations

from pathlib import Path

from tests.peers.dcmtk import run_program


def dciodvfy(path: Path) -> list[str]:
    """The errors that dciodvfy finds, none for a valid object; its warnings are left out."""
    ended = run_program("dciodvfy", "-new", path, package="dicom3tools")
    return [line for line in ended.output.splitlines() if line.startswith("Error")]
