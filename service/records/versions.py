"""What becomes of an object beside those that came under its UID before (DESIGN decision 2).

The same object again changes nothing; the same UID with other bytes is archived beside the first, as a
corrected header where the pixels are the same, else as a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, select

from litegpt.isolation import Isolation
from service.archive import Archive
from service.eligibility import Eligibility
from service.header import storable
from service.pixels import same_pixels
from service.received import ReceivedObject
from service.records.states import InstanceState
from service.records.tables import Instance, Study

CONFLICTING: Final = "other pixels under a UID that is already stored"
CORRECTED: Final = "corrected header of an image that is already stored"
"""Why an object is not analysed that came under a UID that was there."""

_VERSIONS: Final = (
    select(
        Instance.digest,
        Instance.path,
        Instance.state,
        Instance.eligible,
        Instance.purged_at.is_not(None),
        Instance.set_aside_at.is_not(None),
    )
    .join(Study)
    .where(
        Study.study_instance_uid == bindparam("study_instance_uid"),
        Instance.sop_instance_uid == bindparam("uid"),
    )
    .order_by(Instance.id)
)


class Intake(StrEnum):
    """What became of a received object."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    STORED_AGAIN = "stored again after it was purged"
    CORRECTED_HEADER = "corrected header"
    CONFLICT = "conflict"

    @property
    def state(self) -> InstanceState:
        """Of its row."""
        return InstanceState.CONFLICT if self is Intake.CONFLICT else InstanceState.STORED


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a received object, and why its image is not to be analysed (or nothing)."""

    intake: Intake
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One dataset that came under a SOP Instance UID, and the file that it lies in, or lay in if purged."""

    digest: str
    file: Path
    state: str
    eligible: bool
    purged: bool = False
    set_aside: bool = False

    @classmethod
    def of(cls, received: ReceivedObject, kept: Kept) -> Version:
        """What would be recorded of a received object, were it kept."""
        return cls(received.digest, received.path, kept.intake.state, not kept.reason)


def versions(connection: Connection, archive: Archive, received: ReceivedObject) -> list[Version]:
    """What is recorded under an object's UID in its study, in the order in which it came."""
    values = {"study_instance_uid": received.study_instance_uid, "uid": received.sop_instance_uid}
    rows = connection.execute(_VERSIONS, values).all()
    return [
        Version(digest, archive.absolute(path), state, eligible, purged, set_aside)
        for digest, path, state, eligible, purged, set_aside in rows
    ]


@dataclass(frozen=True, slots=True)
class Judge:
    """Says what becomes of an object.

    Attributes:
        isolation: Where images that came twice are decoded, to be compared.
    """

    eligibility: Eligibility
    isolation: Isolation

    def of_first(self, received: ReceivedObject) -> Kept:
        """Of an object that came under no UID that was there."""
        return Kept(Intake.STORED, reason_against(received, self.eligibility))

    def of_next(self, received: ReceivedObject, file: Path, earlier: Sequence[Version]) -> Kept:
        """Of an object that lies in ``file``, against the first of the earlier ones that is still there."""
        own = self.of_first(received)
        same = [version for version in earlier if version.digest == received.digest]
        if same:
            purged = all(version.purged for version in same)
            return Kept(Intake.STORED_AGAIN, own.reason) if purged else Kept(Intake.DUPLICATE)
        used = [version for version in earlier if not version.set_aside]
        stored = [version for version in used if version.state == InstanceState.STORED]
        there = (version.file for version in stored if not version.purged and version.file.is_file())
        present = next(there, None)
        intake = Intake.STORED
        if present is not None:
            intake = (
                Intake.CORRECTED_HEADER if same_pixels(present, file, self.isolation) else Intake.CONFLICT
            )
        if intake is Intake.CONFLICT:
            return Kept(intake, CONFLICTING)
        # What is purged has no pixels to compare with: the new ones are to be read in its place.
        given_up = present is None and not own.reason
        if any(version.eligible and not (version.purged and given_up) for version in earlier):
            return Kept(intake, CORRECTED)
        return Kept(intake, own.reason)


def reason_against(received: ReceivedObject, eligibility: Eligibility) -> str:
    """Why an object's image is not to be analysed, or nothing."""
    reason = eligibility.reason_against(received.header)
    return storable(reason) or ("" if received.has_pixels else "no pixel data")
