"""Which findings the commands' phantoms can have."""

from __future__ import annotations

from enum import StrEnum


class FindingSet(StrEnum):
    """How many of VinDr-CXR's 22 local findings: the first twelve, or all."""

    TWELVE = "12"
    ALL = "22"

    @property
    def labels(self) -> tuple[str, ...]:
        """The findings themselves."""
        # Imported here: what draws phantoms takes long to load
        from training.phantom.choice import DRAWN_LABELS, TWELVE

        return TWELVE if self is FindingSet.TWELVE else DRAWN_LABELS
