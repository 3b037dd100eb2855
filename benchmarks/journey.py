"""A study's whole way through the records, by the node's own functions, timed step by step."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from benchmarks.years import DESTINATION, MODEL
from litegpt.boxes import Box
from litegpt.findings import Finding
from service.archive import Archive
from service.completion import Completion
from service.eligibility import Eligibility
from service.peers import Destination
from service.received import ReceivedObject
from service.records import analyses, conclusions, deliveries
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.database import Records
from service.records.intake import Receiver
from service.records.retry import Retry
from service.rules.rule import ResultRule
from service.rules.rulebook import Rulebook
from service.settings import load_settings

LEASE: Final = timedelta(minutes=2)
RETRY: Final = Retry(first=timedelta(0), maximum=timedelta(0), maximum_attempts=5)
TO: Final = Destination.parse(DESTINATION)
RULE: Final = ResultRule(name="benchmark", destinations=(TO,))
_FINDINGS: Final = (
    Finding("Cardiomegaly", 0.8, Box(10, 10, 400, 300), 0.5, reported=True),
    Finding("Pleural effusion", 0.3, Box(10, 10, 400, 300), 0.5, reported=False),
)


class _NoFiles(Archive):
    """An archive that is said to hold whatever it is given."""

    def take_image(self, received: Path, study_uid: str, sop_uid: str, digest: str) -> str:
        """Says where it would lie."""
        return f"images/{study_uid}/{sop_uid}-{digest[:16]}.dcm"


class Journey:
    """Takes one study after another through the records."""

    def __init__(self, records: Records) -> None:
        settings = load_settings(data_dir=Path("/nonexistent"))
        self._records = records
        eligibility = Eligibility.of(settings)
        self._receiver = Receiver(records, _NoFiles(settings.data_dir), eligibility)
        self._completion = Completion(
            timedelta(0), timedelta(minutes=1), MODEL, eligibility, Rulebook(settings)
        )
        self._batch, self._deliveries = settings.analysis_batch_size, settings.delivery_batch_size
        self._steps: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """Takes a new study from its first image to its delivery; returns the seconds of each step."""
        self._steps = {}
        received = an_image()
        with self._step("receive"):
            self._receiver.keep(received, "DX1")
        with self._step("complete"):
            self._completion.adopt_waiting(self._records)
            self._completion.complete_due(self._records)
        with self._step("claim"):
            (claim,) = analyses.claim(
                self._records,
                model_id=MODEL.id,
                model_version=MODEL.version,
                limit=self._batch,
                lease=LEASE,
                retry=RETRY,
            )
        outcomes = [ImageOutcome(image.instance_id, _FINDINGS) for image in claim.images]
        with self._step("write the result"):
            conclusions.finish(self._records, claim, outcomes, [a_result()], RULE)
        with self._step("deliver"):
            deliveries.destinations_due(self._records)
            (sending,) = deliveries.claim(self._records, TO, limit=self._deliveries, lease=LEASE)
            deliveries.begin(self._records, sending, LEASE)
            deliveries.sent(self._records, sending, "0x0000", 0.1)
        if sending.study_instance_uid != received.study_instance_uid:
            raise SystemExit(f"another study was delivered: {sending.study_instance_uid}")
        return self._steps

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._steps[name] = time.perf_counter() - begun


def an_image() -> ReceivedObject:
    """The only image of a new study, as if it had just been received."""
    study, digest = f"2.25.{uuid.uuid4().int}", uuid.uuid4().hex + uuid.uuid4().hex
    header = Dataset()
    header.StudyInstanceUID, header.AccessionNumber, header.StudyDate = study, digest[:12], "20260101"
    header.Modality, header.ViewPosition, header.BodyPartExamined = "DX", "PA", "CHEST"
    header.PresentationIntentType, header.ImageType = "FOR PRESENTATION", ["ORIGINAL", "PRIMARY"]
    header.SOPClassUID, header.PatientAge = DigitalXRayImageStorageForPresentation, "060Y"
    header.Rows, header.Columns = 3000, 3000
    return ReceivedObject(
        path=Path("/nonexistent"),
        header=header,
        sop_class_uid=DigitalXRayImageStorageForPresentation,
        sop_instance_uid=f"2.25.{uuid.uuid4().int}",
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        digest=digest,
        size_bytes=10_000_000,
        has_pixels=True,
    )


def a_result() -> WrittenResult:
    """A report as if it had just been written."""
    return WrittenResult(
        kind="sr",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid=f"2.25.{uuid.uuid4().int}",
        template_version="1",
        path=f"results/{uuid.uuid4().hex}.dcm",
        digest=uuid.uuid4().hex + uuid.uuid4().hex,
    )
