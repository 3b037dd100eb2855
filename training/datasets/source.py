"""Where a person says a dataset lies: a folder, or one of its files."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from training.errors import DatasetError


class Source:
    """The files at a path.

    Args:
        path: A folder, whose own files are looked at, or one file, which then is all there is.

    Raises:
        DatasetError: If there is nothing at the path, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        try:
            path.stat()
            self._files = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            raise DatasetError(f"cannot be read: {error.strerror or error}", path) from None

    def find(self, pattern: str) -> Path | None:
        """The file whose name fits a pattern, plain or with ``.gz``; the plain one where there are both.

        Args:
            pattern: As in a shell; capital and small letters are the same.

        Raises:
            DatasetError: If several files fit.
        """
        small = pattern.casefold()
        plain = [file for file in self._files if fnmatchcase(file.name.casefold(), small)]
        found = plain or [file for file in self._files if fnmatchcase(file.name.casefold(), f"{small}.gz")]
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise DatasetError(f"several files could be {pattern}: {names}; point at one of them", self.path)
        return found[0] if found else None

    def get(self, pattern: str) -> Path:
        """As ``find``, of a file that must be there.

        Raises:
            DatasetError: If none fits, or several do.
        """
        if found := self.find(pattern):
            return found
        raise DatasetError(f"there is no {pattern}", self.path)
