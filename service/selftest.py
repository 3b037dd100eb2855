"""A study of our own, sent in as a modality would, followed to every destination, and removed again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from litegpt.identity import read_identity
from litegpt.phantoms import phantom_files
from service.actions.action import Course
from service.actions.analysing import Cancel, Force
from service.archive import Archive
from service.completion import Completion
from service.errors import NodeError
from service.records import overview
from service.records.database import Records
from service.records.overview import DELIVERED, StudyView
from service.records.removal import remove_study
from service.records.selection import Selection
from service.records.tables import AnalysisState, Study
from service.settings import Destination, Settings
from service.wire.sender import Sender

WHO: Final = "selftest"
_POLL_SECONDS: Final = 0.1
_ENDED: Final = (AnalysisState.DONE, AnalysisState.FAILED, AnalysisState.NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the way.

    Attributes:
        name: What was to happen.
        seconds: How long it took.
        missing: Why it did not happen; empty where it did.
    """

    name: str
    seconds: float
    missing: str = ""


@dataclass(slots=True)
class Selftest:
    """One run.

    Attributes:
        listener: Where the node listens.
        timeout_seconds: Of all phases together.
    """

    settings: Settings
    records: Records
    archive: Archive
    listener: Destination
    timeout_seconds: float
    study_instance_uid: str = field(default_factory=generate_uid)

    def run(self) -> Iterator[Phase]:
        """Goes phase by phase, and no further than the first that is missing; leaves nothing in the node."""
        deadline = time.monotonic() + self.timeout_seconds
        steps = (("sent", self._send), ("complete", self._complete), ("analysed", self._analysed))
        try:
            for name, step in (*steps, *self._deliveries()):
                start = time.monotonic()
                missing = self._missing(step, deadline)
                yield Phase(name, time.monotonic() - start, missing)
                if missing:
                    return
        finally:
            self._remove()

    def _missing(self, step: Callable[[], str | None], deadline: float) -> str:
        """Why a step has not come to its end; a step says ``None`` while it has to be waited for."""
        while (missing := _said(step)) is None:
            if time.monotonic() >= deadline:
                return f"not within {self.timeout_seconds:.0f} s: {self._where()}"
            time.sleep(_POLL_SECONDS)
        return missing

    def _send(self) -> str:
        with TemporaryDirectory() as folder:
            image = self._image()
            path = Path(folder) / "selftest.dcm"
            image.save_as(path, enforce_file_format=True)
            contexts = [(image.SOPClassUID, [image.file_meta.TransferSyntaxUID])]
            with Sender(self.settings).associate(self.listener, contexts) as connection:
                connection.store(path)
        return ""

    def _image(self) -> Dataset:
        """The first phantom, as a patient and a study that nobody has; it is eligible on every node."""
        image = dcmread(phantom_files()[0])
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_instance_uid, generate_uid()
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.PatientName, image.PatientID = "Selftest^LiteGPT node", "LITEGPT-SELFTEST"
        image.AccessionNumber, image.StudyID = "SELFTEST", "SELFTEST"
        image.StudyDate = f"{date.today():%Y%m%d}"
        image.StudyDescription = "Self-test of the LiteGPT node: no patient"
        return image

    def _complete(self) -> str:
        completion = Completion.of(self.settings, read_identity(self.settings.model))
        Course(self.records, WHO).run(Force(completion), Selection(studies=(self.study_instance_uid,)))
        return ""

    def _analysed(self) -> str | None:
        view = self._view()
        if view.analysis_state not in _ENDED:
            return None
        return "" if view.analysis_state == AnalysisState.DONE else f"{view.analysis_state}: {view.error}"

    def _deliveries(self) -> Iterator[tuple[str, Callable[[], str | None]]]:
        for destination in self.settings.destinations:
            address = destination.address
            yield f"delivered to {address}", lambda address=address: self._delivered(address)  # type: ignore[misc]

    def _delivered(self, address: str) -> str | None:
        """Once all that goes there is there, or replaced by something that is."""
        there = [one for one in self._view().deliveries if one.destination == address]
        refused = [one.error for one in there if one.state == "refused"]
        if refused:
            return f"refused: {refused[0]}"
        waits = [one for one in there if one.state not in {*DELIVERED, "replaced"}]
        return "" if there and not waits else None

    def _view(self) -> StudyView:
        with self.records.reading() as session:
            return overview.show_study(session, self.study_instance_uid)

    def _where(self) -> str:
        view = self._view()
        errors = [view.error, *(one.error for one in view.deliveries)]
        return f"the study is {view.outcome}" + "".join(f", {error}" for error in errors if error)

    def _remove(self) -> None:
        """Ends what is still under way, too, so that nothing is left."""
        named = Selection(studies=(self.study_instance_uid,))
        with self.records.reading() as session:
            of_ours = select(Study.id).where(Study.study_instance_uid == self.study_instance_uid)
            if session.scalar(of_ours) is None:
                return
        course = Course(self.records, WHO)
        course.run(Force(Completion.of(self.settings, read_identity(self.settings.model))), named)
        course.run(Cancel(WHO), named)
        remove_study(self.records, self.archive, self.study_instance_uid)


def _said(step: Callable[[], str | None]) -> str | None:
    try:
        return step()
    except NodeError as error:
        return str(error)
