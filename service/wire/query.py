"""The query SCU: C-FIND in the Study Root model, answers read as they come (PS3.4 C.4.1, C.6.2).

No patient's name is asked for. What a peer answers is checked against what was asked, since some leave out
keys that they do not know and answer everything.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association

from litegpt.attributes import UNDECODABLE, integer, text
from service.errors import KindRefused, NotOffered, NotSetUp, PeerFailed, PeerRefused
from service.peers import Destination
from service.settings import Settings
from service.wire import statuses
from service.wire.association import NO_REPLY, associated, status_in

log = logging.getLogger(__name__)

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""

ENCODINGS: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes of identifiers."""

_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")


@dataclass(frozen=True, slots=True)
class StudyQuestion:
    """One C-FIND at STUDY level; what is empty is not asked.

    Attributes:
        first_day, last_day: Range of Study Date; both or none.
        hours: First and last hour of Study Time, 0..23.
        modality: One of Modalities in Study.
    """

    first_day: date | None = None
    last_day: date | None = None
    hours: tuple[int, int] | None = None
    modality: str = ""
    patient_id: str = ""
    accession_number: str = ""

    def identifier(self) -> Dataset:
        """The identifier that asks it."""
        identifier = _identifier("STUDY", self.patient_id + self.accession_number)
        identifier.StudyInstanceUID = ""
        identifier.StudyDate = self._dates()
        identifier.StudyTime = "{:02d}0000-{:02d}5959.999999".format(*self.hours) if self.hours else ""
        identifier.AccessionNumber = self.accession_number
        identifier.ModalitiesInStudy = self.modality
        identifier.NumberOfStudyRelatedInstances = ""
        if self.patient_id:
            identifier.PatientID = self.patient_id
        return identifier

    def _dates(self) -> str:
        if self.first_day is None or self.last_day is None:
            return ""
        first, last = f"{self.first_day:%Y%m%d}", f"{self.last_day:%Y%m%d}"
        return first if first == last else f"{first}-{last}"

    def is_answered_by(self, identifier: Dataset) -> bool:
        """Whether an answer is one to this question. Identifiers may come back in other letters."""
        day = text(identifier, "StudyDate").replace(".", "")
        dates = self._dates()
        if dates and not dates[:8] <= day <= dates[-8:]:
            return False
        for keyword, asked in (("PatientID", self.patient_id), ("AccessionNumber", self.accession_number)):
            if asked and text(identifier, keyword).casefold() != asked.casefold():
                return False
        modalities = _values(identifier, "ModalitiesInStudy")
        return not self.modality or not modalities or self.modality in modalities


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study at a peer.

    Attributes:
        modalities: Of its series; empty where the peer does not say.
        objects: How many it has; None where the peer does not say.
    """

    study_instance_uid: str
    accession_number: str
    study_date: str
    modalities: tuple[str, ...]
    objects: int | None


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series at a peer; the body part is empty where the peer does not say."""

    series_instance_uid: str
    modality: str
    body_part: str


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An object of a series; its class is empty where the peer does not say."""

    sop_instance_uid: str
    sop_class_uid: str


class Query:
    """Asks questions, one after the other, on one association as long as that lasts.

    Attributes:
        association: The present one, for whoever has to break it off from another thread.
    """

    def __init__(self, settings: Settings, peer: Destination, opened: ExitStack) -> None:
        self._settings = settings
        self._peer = peer
        self._opened = opened
        self.association = self._open()

    def _open(self) -> Association:
        try:
            return self._opened.enter_context(associated(self._settings, self._peer, [(FIND, ENCODINGS)]))
        except KindRefused as error:
            raise NotOffered(str(error)) from None
        except PeerRefused as error:
            raise NotSetUp(str(error)) from None

    def check(self) -> None:
        """Asks for what does not exist: whether the peer answers us at all. Raises as ``studies`` does."""
        self.series(f"2.25.{uuid.uuid4().int}")

    def studies(self, question: StudyQuestion) -> Iterator[FoundStudy]:
        """The studies that answer a question, as they come.

        Raises:
            TooManyMatches: If the peer does not answer so much; what came before may be used.
            PeerFailed: If it does not answer to the end.
            PeerRefused: If it does not understand.
            PeerUnavailable: If the association was lost before, and no other can be opened.
        """
        for answer in self._ask(question.identifier()):
            if question.is_answered_by(answer) and (uid := _uid(answer, "StudyInstanceUID")):
                yield FoundStudy(
                    uid,
                    text(answer, "AccessionNumber"),
                    text(answer, "StudyDate").replace(".", ""),
                    _values(answer, "ModalitiesInStudy"),
                    integer(answer, "NumberOfStudyRelatedInstances"),
                )

    def shows(self, study_instance_uid: str) -> bool:
        """Whether the peer has a study. Raises as ``studies`` does."""
        identifier = _identifier("STUDY")
        identifier.StudyInstanceUID = study_instance_uid
        # To the end: an association on which an answer is still to come would have to be broken off.
        uids = [_uid(answer, "StudyInstanceUID") for answer in self._ask(identifier)]
        return study_instance_uid in uids

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        """The series of a study. Raises as ``studies`` does."""
        identifier = _identifier("SERIES")
        identifier.StudyInstanceUID = study_instance_uid
        identifier.SeriesInstanceUID = identifier.Modality = identifier.BodyPartExamined = ""
        return [
            FoundSeries(uid, text(answer, "Modality"), text(answer, "BodyPartExamined"))
            for answer in self._ask(identifier)
            if (uid := _uid(answer, "SeriesInstanceUID"))
        ]

    def images(self, study_instance_uid: str, series_instance_uid: str) -> list[FoundImage]:
        """The objects of a series. Raises as ``studies`` does."""
        identifier = _identifier("IMAGE")
        identifier.StudyInstanceUID = study_instance_uid
        identifier.SeriesInstanceUID = series_instance_uid
        identifier.SOPInstanceUID = identifier.SOPClassUID = ""
        return [
            FoundImage(uid, text(answer, "SOPClassUID"))
            for answer in self._ask(identifier)
            if (uid := _uid(answer, "SOPInstanceUID"))
        ]

    def _ask(self, identifier: Dataset) -> Iterator[Dataset]:
        if not self.association.is_established:
            self._opened.close()
            self.association = self._open()
        ended = False
        try:
            for reply, answer in self.association.send_c_find(identifier, FIND):
                status = status_in(reply)
                if status is None:
                    # Orthanc, among others, aborts where it does not know who asks.
                    raise PeerFailed(f"{self._peer}: {NO_REPLY}, or it answers no C-FIND of ours")
                if not statuses.is_pending(status):
                    # After a warning some say 0000 as well, which the next question would take for its own.
                    ended = not statuses.is_warning(status)
                    self._raise_for(status)
                elif answer is None:
                    raise PeerFailed(f"{self._peer} sent an answer that cannot be read")
                else:
                    yield answer
        except RuntimeError as error:
            raise PeerFailed(f"{self._peer}: {error}") from error
        finally:
            if not ended and self.association.is_established:
                # Nobody wants the rest of the answers; those on their way would be taken for others.
                self.association.abort()

    def _raise_for(self, status: int) -> None:
        error = statuses.error_of_find(status)
        if error is not None:
            raise error(f"{self._peer} answered a C-FIND with {status:04X}")


@contextmanager
def querying(settings: Settings, peer: Destination) -> Iterator[Query]:
    """Opens an association for questions, and another where one is lost between two of them.

    Raises:
        PeerUnavailable: If the peer does not answer, or rejects for now.
        NotSetUp: If it rejects us for good.
        NotOffered: If it answers no such questions.
    """
    with ExitStack() as opened:
        yield Query(settings, peer, opened)


def _identifier(level: str, asked: str = "") -> Dataset:
    identifier = Dataset()
    if not asked.isascii():
        identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    return identifier


def _uid(answer: Dataset, keyword: str) -> str:
    uid = text(answer, keyword).strip("\0")
    if not _UID.fullmatch(uid):
        log.warning("an answer without a usable %s is left out", keyword)
        return ""
    return uid


def _values(answer: Dataset, keyword: str) -> tuple[str, ...]:
    try:
        value = answer.get(keyword) or ()
        return tuple(str(one) for one in ([value] if isinstance(value, str) else value) if one)
    except UNDECODABLE:
        return ()
