"""What ``litegpt predict`` does with files: reads them, and tells what was found: table, JSON, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from litegpt.errors import RadiographError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity
from litegpt.overlay import draw_overlay
from litegpt.radiograph import Radiograph, read_radiograph
from litegpt.squares import SquashedImage, read_squares

if TYPE_CHECKING:
    from litegpt.engine import Engine

_PREAMBLE_BYTES: Final = 128


def dicom_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those of the folders named that begin as DICOM files do (PS3.10 7.1)."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [file for file in sorted(path.rglob("*")) if file.is_file() and _is_dicom(file)]
        else:
            found.append(path)
    return found


class Prediction:
    """One run over files. What was found so far can be shown at any time."""

    def __init__(self, engine: Engine, overlay: Path | None = None, *, candidates: bool = False) -> None:
        """Args:
        engine: Reads them.
        overlay: Folder for pictures, if they are wanted.
        candidates: Whether to look for boxes of labels that are not said.
        """
        self.table = Table("file", "finding", "score", "box in pixels: left, top, right, bottom")
        self.failures: list[str] = []
        self._engine = engine
        self._overlay = overlay
        self._candidates = candidates
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._shown: dict[Path, Radiograph] = {}
        self._pictures: set[Path] = set()

    def json_lines(self, files: Sequence[Path]) -> Iterator[str | None]:
        """Reads files; of each a line of JSON, or None where it cannot be read."""
        for read in self._engine.read_ahead(files, self._load, candidates=self._candidates):
            path, came = read.item, read.came
            reason = came.failure if isinstance(came, Reading) else _reason(came)
            if reason is not None or not isinstance(came, Reading):
                self.failures.append(f"{path}: {reason}")
                yield None
                continue
            self._add_rows(path, came.findings)
            if self._overlay is not None:
                self._draw(self._overlay, path, came.findings)
            yield self._json_line(path, came)

    def _load(self, path: Path) -> SquashedImage:
        """The squares that a node's worker would read, too, whether a picture is wanted or not."""
        image = read_squares(path, self._engine.square_sizes)
        self._sizes[path] = image.rows, image.columns
        if self._overlay is not None:
            self._shown[path] = read_radiograph(path)
        return image

    def _draw(self, folder: Path, path: Path, findings: Sequence[Finding]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        demonstration = self._engine.identity.demonstration
        picture = draw_overlay(self._shown.pop(path), findings, demonstration=demonstration)
        picture.save(self._picture_path(folder, path))

    def _picture_path(self, folder: Path, path: Path) -> Path:
        """``folder/NAME.png``, numbered where several files of this run have the same name."""
        picture, number = folder / f"{path.stem}.png", 1
        while picture in self._pictures:
            number += 1
            picture = folder / f"{path.stem}-{number}.png"
        self._pictures.add(picture)
        return picture

    def _add_rows(self, path: Path, findings: Sequence[Finding]) -> None:
        for number, finding in enumerate(findings):
            box = finding.box
            sides = (box.x_min, box.y_min, box.x_max, box.y_max) if box else ()
            place = ", ".join(f"{side:.0f}" for side in sides)
            mark = "" if finding.reported else ", below threshold"
            self.table.add_row(
                "" if number else path.name, finding.label, f"{finding.score:.2f}{mark}", place
            )
        if not findings:
            self.table.add_row(path.name, "(no readable answer)", "", "")

    def _json_line(self, path: Path, reading: Reading) -> str:
        rows, columns = self._sizes.pop(path)
        line = {
            "file": str(path),
            "model": _model_json(self._engine.identity),
            "rows": rows,
            "columns": columns,
            "findings": [_finding_json(finding) for finding in reading.findings],
            "answers": dict(reading.answers),
            "malformed": reading.malformed,
            "label_scores": {label: _four_digits(score) for label, score in reading.label_scores.items()},
            "calibrated": reading.calibrated,
        }
        if self._candidates:
            line["candidates"] = [_finding_json(finding) for finding in reading.candidates]
        return json.dumps(line, ensure_ascii=False)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"


def _reason(error: RadiographError | OSError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _model_json(identity: ModelIdentity) -> dict[str, object]:
    return {"id": identity.id, "version": identity.version, "demonstration": identity.demonstration}


def _finding_json(finding: Finding) -> dict[str, object]:
    box = finding.box
    return {
        "label": finding.label,
        "score": _four_digits(finding.score),
        "box": [box.x_min, box.y_min, box.x_max, box.y_max] if box else None,
        "box_score": None if finding.box_score is None else _four_digits(finding.box_score),
        "reported": finding.reported,
    }


def _four_digits(score: float) -> float:
    """Four significant ones: the score of a label may be far below 0.0001."""
    return float(f"{score:.4g}")
