"""Other names for studies, images and accession numbers: the same ones each time, under a secret key.

An HMAC cannot be undone without the key, and an accession number cannot be found by trying them all, as it
could from a plain hash. Whoever has the key can tell which study a pseudonym means: it stays in the node.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from service.errors import OutOfResources, SettingsError
from service.exporting.rows import Row

KEY_FILE: Final = "pseudonyms.key"
_KEY_BYTES: Final = 32
_MAXIMUM_DAYS: Final = 3650
_OF_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes them.

    Attributes:
        key: The secret.
    """

    key: bytes = field(repr=False)

    @classmethod
    def of_folder(cls, folder: Path) -> Pseudonyms:
        """By the key in a node's data folder, made there the first time.

        Raises:
            OutOfResources: If it can be neither read nor written.
            SettingsError: If it is damaged, or others may read it.
        """
        file = folder / KEY_FILE
        try:
            if not file.exists():
                _make_key(file)
            if file.stat().st_mode & _OF_OTHERS:
                raise SettingsError(f"others may read {file}: chmod 600 it")
            key = bytes.fromhex(file.read_text(encoding="ascii"))
        except OSError as error:
            raise OutOfResources(f"{file}: {error.strerror}") from error
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise SettingsError(f"{file} is damaged: it holds no key")
        return cls(key)

    def of_row(self, row: Row) -> Row:
        """The same with pseudonyms, and moved in time by as many days as all of its study."""
        days = self.days(row.study_instance_uid)
        return row._replace(
            study_instance_uid=self.uid(row.study_instance_uid),
            accession_number=self.accession_number(row.accession_number),
            study_date=_earlier(row.study_date, days),
            received_at=row.received_at - days,
            sop_instance_uid=self.uid(row.sop_instance_uid),
            analysis_id=None if row.analysis_id is None else self._number(row.analysis_id),
            not_read=_own_words(row.not_read),
        )

    def uid(self, uid: str) -> str:
        """A UID made of a UUID (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"

    def accession_number(self, number: str) -> str:
        """16 characters, as many as an SH may have (PS3.5 6.2); for no program a number."""
        digest = base64.b32encode(self._digest("accession number", number)).decode("ascii")
        return f"P{digest[:15]}" if number else ""

    def days(self, study_instance_uid: str) -> timedelta:
        """How much earlier all of a study is said to have happened: 1 to 3650 days."""
        number = int.from_bytes(self._digest("days", study_instance_uid)[:8])
        return timedelta(days=1 + number % _MAXIMUM_DAYS)

    def _number(self, number: int) -> int:
        # 53 bits: programs that know only floating point numbers keep them, too.
        return int.from_bytes(self._digest("analysis", str(number))[:8]) >> 11

    def _digest(self, kind: str, name: str) -> bytes:
        return hmac.digest(self.key, f"{kind}\0{name}".encode(), hashlib.sha256)


def _make_key(file: Path) -> None:
    """Linked into its place whole, so that of two processes that make one the first wins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(secrets.token_hex(_KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(new, file)
    finally:
        new.unlink()


def _earlier(day: date | None, days: timedelta) -> date | None:
    try:
        return day and day - days
    except OverflowError:  # a device whose clock says the year 1
        return None


def _own_words(reason: str) -> str:
    """Reasons quote headers and files, behind words of ours in small letters; only these stay."""
    words = re.match(r"[a-z ,]*", reason)
    return words[0].strip(" ,") if words else ""
