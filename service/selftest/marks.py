"""How a self-test's study is known anywhere in the node: by its Study Instance UID.

It is made of a UUID of version 8 (RFC 9562 5.8), whose form is the maker's own: 60 of its bits say that this
is a self-test of ours and whether its results are held, the others are random. No modality comes to such a
UID by accident, and no setting or table has to be told.
"""

from __future__ import annotations

import secrets
from typing import Final

_ROOT: Final = "2.25."
"""PS3.5 B.2: a UUID as a decimal number."""

_OURS: Final = int.from_bytes(b"LiteGP", "big")
_HELD, _DELIVERED = 0x0E1, 0x0E2
_VERSION, _VARIANT = 8, 2
_RANDOM_BITS: Final = 62


def new_study_uid(*, held: bool) -> str:
    """A UID for a self-test's study.

    Args:
        held: Whether its results go nowhere.
    """
    return f"{_ROOT}{_fixed(_HELD if held else _DELIVERED) | secrets.randbits(_RANDOM_BITS)}"


def is_selftest(study_instance_uid: str) -> bool:
    """Whether the study is a self-test's."""
    return _fixed_bits_of(study_instance_uid) in {_fixed(_HELD), _fixed(_DELIVERED)}


def is_held(study_instance_uid: str) -> bool:
    """Whether the study is a self-test's whose results go nowhere."""
    return _fixed_bits_of(study_instance_uid) == _fixed(_HELD)


def _fixed(kind: int) -> int:
    return _OURS << 80 | _VERSION << 76 | kind << 64 | _VARIANT << _RANDOM_BITS


def _fixed_bits_of(uid: str) -> int:
    number = uid.removeprefix(_ROOT)
    if not uid.startswith(_ROOT) or not (number.isascii() and number.isdigit()):
        return 0
    return int(number) >> _RANDOM_BITS << _RANDOM_BITS
