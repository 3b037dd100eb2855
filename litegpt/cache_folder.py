"""Where caches lie when nobody says otherwise. Torch-free."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_folder(name: str = "litegpt") -> Path:
    """A folder of ``$XDG_CACHE_HOME``, or of ``~/.cache`` where that is unset, empty or relative.

    Source: XDG Base Directory Specification, which tells to ignore relative paths.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / name
