"""A PACS with moods: it takes what comes, or refuses for now in one of the ways that DICOM and TCP have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from tests.ports import free_port

AE_TITLE: Final = "MOODY"

_SUCCESS: Final = 0x0000
_OUT_OF_RESOURCES: Final = 0xA700
_TEMPORARY_CONGESTION: Final = (2, 3, 1)
"""Result, source and diagnostic of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""


class Mood(StrEnum):
    """What the PACS does with who calls it."""

    TAKES = "takes"
    OUT_OF_RESOURCES = "answers A700"
    REJECTS = "rejects associations"
    AWAY = "refuses connections"


REFUSING: Final = (Mood.OUT_OF_RESOURCES, Mood.REJECTS, Mood.AWAY)


class MoodyPacs:
    """The PACS.

    Attributes:
        stored: How often each SOP Instance UID was answered with Success.
        refused: How often it refused in each mood; it cannot know of connections.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.stored: Counter[str] = Counter()
        self.refused: Counter[Mood] = Counter()
        self._mood = Mood.AWAY
        self._server: Any = None

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{AE_TITLE}@127.0.0.1:{self.port}"

    def turn(self, mood: Mood) -> None:
        """Changes its mood; who holds an association open is met by a new one with his next."""
        self._mood = mood
        if mood is Mood.REJECTS and self._server is not None:
            for association in self._server.active_associations:
                association.abort()
        if mood is Mood.AWAY and self._server is not None:
            self._server.shutdown()
            self._server = None
        elif mood is not Mood.AWAY and self._server is None:
            entity = AE(ae_title=AE_TITLE)
            for context in AllStoragePresentationContexts:
                entity.add_supported_context(str(context.abstract_syntax))
            handlers: list[Any] = [(evt.EVT_REQUESTED, self._on_requested), (evt.EVT_C_STORE, self._on_store)]
            self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _on_requested(self, event: Event) -> None:
        if self._mood is Mood.REJECTS:
            self.refused[Mood.REJECTS] += 1
            event.assoc.acse.send_reject(*_TEMPORARY_CONGESTION)
            event.assoc.kill()

    def _on_store(self, event: Event) -> int:
        if self._mood is not Mood.TAKES:
            self.refused[Mood.OUT_OF_RESOURCES] += 1
            return _OUT_OF_RESOURCES
        request: Any = event.request
        self.stored[str(request.AffectedSOPInstanceUID)] += 1
        return _SUCCESS


@contextmanager
def moody_pacs() -> Iterator[MoodyPacs]:
    """One that refuses connections, until it is told otherwise; it is gone when the block ends."""
    pacs = MoodyPacs()
    try:
        yield pacs
    finally:
        pacs.turn(Mood.AWAY)
