"""Errors and the DIMSE statuses that say them: one table for each direction.

Answering a C-STORE: PS3.4 B.2.3 (A7xx, A9xx, Cxxx). Reading a C-STORE reply: the same, and PS3.7 Annex C.
Reading the last answer to a C-FIND: PS3.4 C.4.1.1.4; to a C-MOVE or C-GET: C.4.2.1.5, C.4.3.1.4.
"""

from __future__ import annotations

import re
from typing import Final

from service.errors import (
    CannotUnderstand,
    DatasetMismatch,
    NodeError,
    NotSetUp,
    OutOfResources,
    PeerFailed,
    PeerRefused,
    TooLarge,
    TooManyMatches,
)

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
DATASET_MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
UNEXPECTED: Final = 0xA701
"""A fault of our own: transient in the sender's eyes, since the object is not to blame."""

_STATUSES: Final[tuple[tuple[type[NodeError], int], ...]] = (
    (OutOfResources, OUT_OF_RESOURCES),
    (TooLarge, OUT_OF_RESOURCES),
    (DatasetMismatch, DATASET_MISMATCH),
    (CannotUnderstand, CANNOT_UNDERSTAND),
)


def status_of(error: Exception) -> int:
    """The C-STORE status that says this error to the sender."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return UNEXPECTED


def is_accepted(status: int) -> bool:
    """Whether a peer has stored what we sent: success, or success with a warning (Bxxx, PS3.4 B.2.3)."""
    return status == SUCCESS or is_warning(status)


def is_warning(status: int) -> bool:
    """Whether it is one of the warnings of a service (PS3.7 C.3)."""
    return status >> 12 == 0xB


SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
"""Refused: the SOP class is not supported (PS3.7 C.5.6)."""


def is_transient(status: int) -> bool:
    """Whether a peer's refusal is worth another try.

    A7xx is out of resources; 0110 (processing failure) and 0213 (resource limitation) are general statuses
    (PS3.7 C.5) that speak of the peer's state and not of our object.
    """
    return status >> 8 == 0xA7 or status in (0x0110, 0x0213)


_PENDING: Final = (0xFF00, 0xFF01)

_FIND: Final[tuple[tuple[str, type[NodeError] | None], ...]] = (
    ("0000", None),
    ("0122", NotSetUp),
    ("0124", NotSetUp),
    ("A7..", TooManyMatches),
    # Warnings that there are more, and archives that break off by themselves.
    ("B0..", TooManyMatches),
    ("FE00", TooManyMatches),
    ("A9..", PeerRefused),
    ("....", PeerFailed),
)
_RETRIEVE: Final[tuple[tuple[str, type[NodeError] | None], ...]] = (
    ("0000", None),
    ("0122", NotSetUp),
    ("0124", NotSetUp),
    ("A801", NotSetUp),
    ("A9..", PeerRefused),
    ("AA..", PeerRefused),
    ("....", PeerFailed),
)
"""The first pattern that fits a status says what it is; None is success."""


def is_pending(status: int) -> bool:
    """Whether more answers follow (PS3.7 C.1.3)."""
    return status in _PENDING


def error_of_find(status: int) -> type[NodeError] | None:
    """What the last status of a C-FIND means; None is success."""
    return _meaning(_FIND, status)


def error_of_retrieve(status: int) -> type[NodeError] | None:
    """What the last status of a C-MOVE or C-GET means; None is success."""
    return _meaning(_RETRIEVE, status)


def _meaning(table: tuple[tuple[str, type[NodeError] | None], ...], status: int) -> type[NodeError] | None:
    return next(error for pattern, error in table if re.fullmatch(pattern, f"{status:04X}"))
