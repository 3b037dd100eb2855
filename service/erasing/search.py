"""What the archive holds of a patient: by the headers of its files, since the records know no patient.

Files are looked at and not rows, so that what a killed process left, and no row names, is found as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from service.archive import Archive, is_young
from service.errors import SettingsError
from service.patient import PatientKey, comparable, read_key


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who is looked for.

    Attributes:
        id: Patient ID (0010,0020).
        issuer: Issuer of Patient ID (0010,0021); empty: files that name none; None: whatever they name.
    """

    id: str
    issuer: str | None = None

    @classmethod
    def of(cls, id_: str, issuer: str | None) -> Wanted:
        """As a person writes it.

        Raises:
            SettingsError: If the id is empty: that would be everybody whose id is not known.
        """
        if not comparable(id_):
            raise SettingsError("a patient's id is not empty")
        return cls(comparable(id_), None if issuer is None else comparable(issuer))

    def is_meant(self, key: PatientKey) -> bool:
        """Whether such a file is theirs."""
        return key.id == self.id and self.issuer in (None, key.issuer)


@dataclass(slots=True)
class Found:
    """What lies in the archive.

    Attributes:
        studies: Study Instance UIDs of which a file is the patient's.
        mixed: Those among them of which another file is somebody else's.
        issuers: Whoever gave the id in the files that are meant.
        others: How many studies have the same id of another issuer, and are not meant.
        arriving: How many files of the patient are just coming in.
        unread: Files that do not say whose they are.
    """

    studies: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)
    issuers: set[str] = field(default_factory=set)
    others: int = 0
    arriving: int = 0
    unread: list[str] = field(default_factory=list)

    @property
    def is_ambiguous(self) -> bool:
        """Whether the id alone may mean several people."""
        return len(self.issuers - {""}) > 1


def search(
    archive: Archive, wanted: Wanted, named: Iterable[str], report: Callable[[int], None] = lambda _: None
) -> Found:
    """Looks at every file of the archive.

    Args:
        archive: The node's.
        wanted: Who is looked for.
        named: Study Instance UIDs that are theirs whatever their files say.
        report: Told after each study that it is one more.

    Raises:
        OutOfResources: If the archive is away.
    """
    found, certain = Found(), set(named)
    for uid in archive.studies():
        _look(found, wanted, archive, uid, uid in certain)
        report(1)
    found.studies |= certain
    keys = (read_key(path) for path in _incoming(archive))
    found.arriving = sum(key is not None and wanted.is_meant(key) for key in keys)
    return found


def _look(found: Found, wanted: Wanted, archive: Archive, uid: str, certain: bool) -> None:
    keys: set[PatientKey] = set()
    for path in archive.files_of(uid):
        key = read_key(path)
        if key is None:
            found.unread.append(str(path.relative_to(archive.root)))
        else:
            keys.add(key)
    meant = {key for key in keys if wanted.is_meant(key)}
    if meant or certain:
        found.studies.add(uid)
        found.issuers |= {key.issuer for key in meant}
        if any(key.id != wanted.id for key in keys):
            found.mixed.add(uid)
    elif any(key.id == wanted.id for key in keys):
        found.others += 1


def _incoming(archive: Archive) -> list[Path]:
    """What is being received; leftovers are swept."""
    there = []
    for path in archive.incoming.iterdir():
        try:
            if is_young(path):
                there.append(path)
        except FileNotFoundError:
            continue
    return there
