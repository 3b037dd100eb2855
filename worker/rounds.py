"""Work that comes in rounds: whatever is due, until nothing is, or for a while."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from math import inf


class Rounds(ABC):
    """One process's work of a kind."""

    def drain(self, seconds: float = inf) -> bool:
        """Works until nothing is due, or until the round in hand when ``seconds`` are over.

        Returns:
            Whether nothing is due any more.

        Raises:
            OutOfResources: If the records are away; what was claimed is due again when its lease ends.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self._round():
                return True
        return False

    @abstractmethod
    def _round(self) -> bool:
        """One round; whether there was anything to do."""
