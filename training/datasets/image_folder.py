"""Which image files lie in a folder: looked up by name, none of them opened."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from training.datasets.problems import Kind, Place, Tally
from training.errors import DatasetError


class ImageFolder:
    """The images in one or more folders.

    Args:
        folders: Folders; those that do not exist hold nothing.
        suffixes: Of the files that count as images, in small letters.

    Raises:
        DatasetError: If a folder cannot be read.
    """

    def __init__(self, folders: Iterable[Path], suffixes: Collection[str]) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._files: dict[str, Path] = {}
        self._asked: set[str] = set()
        for folder in self.folders:
            try:
                self._files |= {
                    file.stem: file for file in folder.iterdir() if file.suffix.lower() in suffixes
                }
            except OSError as error:
                raise DatasetError(f"cannot be read: {error.strerror or error}", folder) from None

    def __bool__(self) -> bool:
        """Whether there is any such folder; where not, no image can be called missing."""
        return bool(self.folders)

    def find(self, stem: str, place: Place, column: str, tally: Tally) -> Path | None:
        """The image whose name without suffix is ``stem``; None, reported where the folder is there."""
        self._asked.add(stem)
        found = self._files.get(stem)
        if self and found is None:
            tally.report(Kind.MISSING_IMAGE, place, column, f"no image {stem} in {self.folders[0]}")
        return found

    def report_unasked(self, tally: Tally) -> None:
        """Reports the images that nobody asked for."""
        for stem in sorted(self._files.keys() - self._asked):
            tally.report(Kind.IMAGE_WITHOUT_ROWS, Place(self._files[stem]), "", "no row speaks of it")
