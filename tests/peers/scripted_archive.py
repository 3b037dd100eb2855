"""A PACS that answers as it is told: the statuses that no archive of ours can be brought to give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

AE_TITLE: Final = "SCRIPTED"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))

_KEYS: Final = {
    "STUDY": ("StudyInstanceUID", "StudyDate", "AccessionNumber", "ModalitiesInStudy"),
    "SERIES": ("SeriesInstanceUID", "Modality", "BodyPartExamined"),
    "IMAGE": ("SOPInstanceUID", "SOPClassUID"),
}
_SAID_BY_EXACT_MATCH: Final = ("StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "AccessionNumber")


@dataclass
class ScriptedArchive:
    """What it holds, what it answers, and what it was asked.

    Attributes:
        images: What it holds.
        most: More matches than this are answered with ``too_many`` after so many.
        too_many: That status.
        find_status: Status of every C-FIND at STUDY level, before any match; None for a proper answer.
        retrieve_status: Last status of every C-MOVE or C-GET; None for a proper answer.
        sends: Whether it sends images before that.
        character_set: Of its answers.
        script: Answers a C-GET in the place of all that.
        to_port: Where it sends for a C-MOVE.
        asked: Identifiers of the questions at STUDY level.
        retrieved: UIDs of the studies that it was to send.
    """

    images: Sequence[Dataset]
    most: int = 10_000
    too_many: int = 0xA700
    find_status: int | None = None
    retrieve_status: int | None = None
    sends: bool = True
    character_set: str = "ISO_IR 100"
    to_port: int = 0
    port: int = 0
    script: Callable[[Event], Iterator[Any]] | None = None
    asked: list[Dataset] = field(default_factory=list)
    retrieved: list[str] = field(default_factory=list)

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{AE_TITLE}@127.0.0.1:{self.port}"

    def on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = str(asked.QueryRetrieveLevel)
        if level == "STUDY":
            self.asked.append(asked)
            if self.find_status is not None:
                yield self.find_status, None
                return
        answers = {}
        for image in self._matching(asked):
            answer = Dataset()
            answer.SpecificCharacterSet = self.character_set
            image.ModalitiesInStudy = image.Modality
            for keyword in _KEYS[level]:
                setattr(answer, keyword, image.get(keyword, ""))
            answers[str(answer[_KEYS[level][0]].value)] = answer
        for number, answer in enumerate(answers.values()):
            if number == self.most:
                yield self.too_many, None
                return
            yield 0xFF00, answer

    def on_move(self, event: Event) -> Iterator[Any]:
        yield "127.0.0.1", self.to_port
        yield from self.on_get(event)

    def on_get(self, event: Event) -> Iterator[Any]:
        if self.script is not None:
            yield from self.script(event)
            return
        self.retrieved.append(str(event.identifier.StudyInstanceUID))
        sent = self._matching(event.identifier) if self.sends else []
        yield max(1, len(sent))
        for image in sent:
            yield 0xFF00, image
        if self.retrieve_status is not None:
            yield self.retrieve_status, Dataset()

    def _matching(self, asked: Dataset) -> list[Dataset]:
        return [image for image in self.images if _matches(image, asked)]


def _matches(image: Dataset, asked: Dataset) -> bool:
    for keyword in _SAID_BY_EXACT_MATCH:
        wanted = str(asked.get(keyword) or "")
        if wanted and str(image.get(keyword, "")) != wanted:
            return False
    first, _, last = str(asked.get("StudyTime") or "").partition("-")
    if first and not first <= image.StudyTime <= last:
        return False
    return asked.get("ModalitiesInStudy") in (None, "", image.Modality)


@contextmanager
def scripted_archive(archive: ScriptedArchive) -> Iterator[ScriptedArchive]:
    """Runs it on a free port."""
    entity = AE(ae_title=AE_TITLE)
    for model in (FIND, MOVE, GET):
        entity.add_supported_context(model)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), scu_role=False, scp_role=True)
    entity.requested_contexts = AllStoragePresentationContexts[:20]
    for image in archive.images:
        entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_C_FIND, archive.on_find),
            (evt.EVT_C_MOVE, archive.on_move),
            (evt.EVT_C_GET, archive.on_get),
        ],
    )
    assert server is not None
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
