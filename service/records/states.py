"""The states that the records know, as the words that stand in the database."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class InstanceState(StrEnum):
    """``conflict``: the same SOP Instance UID came with other pixels; held for an admin."""

    STORED = "stored"
    CONFLICT = "conflict"


class StudyState(StrEnum):
    """``receiving`` until the quiet period has passed; a late eligible image opens the study again."""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class AnalysisState(StrEnum):
    """The life of one analysis; ``failed`` is quarantined, the rest of the ends are in order."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    NOT_APPLICABLE = "not-applicable"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


WAITING: Final = (AnalysisState.QUEUED, AnalysisState.RUNNING)
"""Analyses that a worker has, or will have."""


class DeliveryState(StrEnum):
    """``due`` again after a transient failure; ``withdrawn``: superseded before it was sent; ``replaced``:
    the destination takes no such objects, and another result goes there instead."""

    DUE = "due"
    SENT = "sent"
    COMMITTED = "committed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"


class AttemptOutcome(StrEnum):
    """How one attempt at a delivery or a webhook call ended; ``not-shown``: it only looked, and the
    destination does not show the study yet; ``no-association``: nothing was sent."""

    SENT = "sent"
    TRY_AGAIN = "try-again"
    NO_ASSOCIATION = "no-association"
    NOT_SHOWN = "not-shown"
    REFUSED = "refused"
    REPLACED = "replaced"


class CallState(StrEnum):
    """``due`` again after a transient failure; ``withdrawn``: superseded or cancelled before it was told."""

    DUE = "due"
    SENT = "sent"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class PeerKind(StrEnum):
    """What is sent to: a destination by DICOM, a webhook by HTTP."""

    DESTINATION = "destination"
    WEBHOOK = "webhook"


class Priority(IntEnum):
    """What comes first; less is sooner. ``backlog``: old studies, which wait for today's."""

    STAT = 0
    ROUTINE = 1
    BACKLOG = 2

    def __str__(self) -> str:
        return self.name.lower()


class Purpose(StrEnum):
    """Why a model reads a study.

    ``regular``: it was the active one; what waits goes to whichever is then. ``named``: it was asked for by
    its name, and keeps it. ``shadow``: it is compared with the active one; what it finds is for an admin.
    """

    REGULAR = "regular"
    NAMED = "named"
    SHADOW = "shadow"


class ModelState(StrEnum):
    """``active``: it reads what comes; ``shadow``: so does it, beside; ``available``: it reads what it is
    asked to; ``retired``: nothing any more."""

    ACTIVE = "active"
    SHADOW = "shadow"
    AVAILABLE = "available"
    RETIRED = "retired"


class JobState(StrEnum):
    """The life of a retrieval job: ``finding`` what there is, then ``running`` from study to study."""

    FINDING = "finding"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


class RetrievalState(StrEnum):
    """``skipped``: the node had its images already, or it has none that the node reads."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Role(StrEnum):
    """What a user of the pages, or a client of the API, may do; each may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what ``other`` may."""
        return list(Role).index(self) >= list(Role).index(other)
