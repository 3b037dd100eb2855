"""Which side of training or validation an image is on: its patient alone decides, by a hash.

So a patient is never on both sides, images that come later move none that are there, and the images that two
datasets share (VinDr-CXR and VinBigData, NIH and RSNA with its mapping) are on the same side in both.
"""

from __future__ import annotations

import hashlib
from typing import Final

from training.datasets.example import Example, Split

VALIDATION_SHARE: Final = 0.1


def split_of(example: Example, *, share: float = VALIDATION_SHARE, salt: str = "") -> Split:
    """The split of an example: its makers' validation or test, else train or validation by its patient.

    Args:
        example: Of any dataset. Where the makers have a validation split of their own, ``share`` of 0 keeps
            to it.
        share: The part of the patients that is held back for validation, 0..1.
        salt: Another one draws another part.
    """
    if example.split in ("validation", "test"):
        return example.split
    return "validation" if is_held_back(example.patient, share, salt) else "train"


def is_held_back(patient: str, share: float, salt: str = "") -> bool:
    """Whether a patient is one of the ``share`` that is held back for validation."""
    digest = hashlib.sha256(f"{salt}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
