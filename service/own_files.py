"""What the node writes is for the user alone that it runs as, whatever umask it was started with."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from service.errors import SettingsError

_OF_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WAY_IN: Final = stat.S_IXGRP | stat.S_IXOTH


def for_ourselves() -> None:
    """Has all that this process and its children make from now on be for its user alone; ``main`` calls this.

    That is folders 0700 and files 0600, those of SQLite and of Celery's file-system broker included.
    """
    os.umask(_OF_OTHERS)


def require_closed(folder: Path) -> str:
    """Nobody but its owner comes into a folder; how that is so is returned.

    Raises:
        SettingsError: If others do.
        PermissionError: If it cannot be looked at.
    """
    folder = folder.absolute()
    if not folder.stat().st_mode & _OF_OTHERS:
        return "for its owner alone"
    for above in folder.parents:
        if not above.stat().st_mode & _WAY_IN:
            return f"others do not come through {above}"
    raise SettingsError(f"other users of this machine can read {folder}: chmod 700 {folder}")


def require_folder(folder: Path) -> None:
    """Looks whether ``folder`` is one, or could be made; makes nothing.

    Raises:
        SettingsError: If a file stands in its place or above it.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise SettingsError(f"{nearest} is not a folder")
