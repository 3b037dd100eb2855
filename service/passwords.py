"""Passwords of the pages' users: what one must be, and the only form in which it is kept (Argon2id)."""

from __future__ import annotations

import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service.errors import SettingsError

SHORTEST: Final = 12
LONGEST: Final = 1024

_HASHER: Final = PasswordHasher()
"""RFC 9106's second recommended choice: 64 MiB, three passes, four lanes."""

_AT_ONCE: Final = threading.BoundedSemaphore(2)
"""Each verification takes 64 MiB: what strangers send must not take all of the memory."""

_NOBODYS: Final = (
    f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    f"${'A' * 22}${'A' * 43}"
)
"""The form of a hash, of salt and hash that are all zeros: no password is known to have it."""


def hash_password(password: str) -> str:
    """The password's hash, with a salt of its own.

    Raises:
        SettingsError: If it is too short, or too long to be one.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise SettingsError(f"a password has {SHORTEST} to {LONGEST} characters")
    return _HASHER.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password has that hash; takes as long for ``None``, which no password has."""
    with _AT_ONCE:
        try:
            verified = _HASHER.verify(password_hash or _NOBODYS, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return False
    return verified and password_hash is not None
