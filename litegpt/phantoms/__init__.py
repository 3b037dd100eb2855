"""Eight synthetic chest radiographs as DICOM files, to try everything without a patient's image.

Made by ``litegpt-train samples``; what is drawn in them is in ``truth.json``, boxes in pixels of each matrix.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def phantom_files() -> list[Path]:
    """The shipped radiographs, by name. Eight files of seven studies; the two of "Phantom^Four" share one."""
    return sorted(Path(str(files(__name__))).glob("*.dcm"))
