"""One image read, for tests of the results that each image has of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import TypedDict
from zoneinfo import ZoneInfo

import pytest
from pydicom.dataset import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.radiograph import Radiograph, read_radiograph
from service.peers import ResultKind
from tests.images import CR, DX, SECONDARY_CAPTURE
from worker.results import presentation_state, secondary_capture
from worker.results.identity import ResultIdentity
from worker.results.part10 import encode
from worker.results.provenance import Provenance
from worker.results.reading import ImageReading, ReportingDevice

MODEL = ModelIdentity("litegpt-test", "1.2", demonstration=False)
PHANTOM = ModelIdentity("litegpt-phantom", "1", demonstration=True)
ONE = (Finding("Nodule/Mass", 0.91, Box(100, 150, 220, 300)),)


def of_every_form(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test for each SOP class of image, with a finding and without, by a model and a demonstration."""
    for name, values, ids in (
        ("model", [MODEL, PHANTOM], ["model", "demonstration"]),
        ("sop_class", [CR, DX, SECONDARY_CAPTURE], None),
        ("findings", [ONE, ()], ["finding", "none"]),
    ):
        test = pytest.mark.parametrize(name, values, ids=ids)(test)
    return test


def capture_of(
    image: Dataset, findings: Sequence[Finding] = ONE, *, model: ModelIdentity = MODEL, number: int = 1
) -> bytes:
    """The Secondary Capture as a file."""
    reading, given = _made_of(image, findings, model, secondary_capture)
    radiograph = read_radiograph(image)
    return encode(secondary_capture.secondary_capture(reading, radiograph, instance_number=number, **given))


def state_of(
    image: Dataset,
    findings: Sequence[Finding] = ONE,
    *,
    model: ModelIdentity = MODEL,
    number: int = 1,
    radiograph: Radiograph | None = None,
) -> bytes:
    """The presentation state as a file; ``radiograph`` in place of what the image gives."""
    reading, given = _made_of(image, findings, model, presentation_state)
    radiograph = radiograph or read_radiograph(image)
    return encode(presentation_state.presentation_state(reading, radiograph, instance_number=number, **given))


class _Given(TypedDict):
    identity: ResultIdentity
    provenance: Provenance


def _made_of(
    image: Dataset, findings: Sequence[Finding], model: ModelIdentity, module: ModuleType
) -> tuple[ImageReading, _Given]:
    header = Dataset({tag: image[tag] for tag in image.keys() if tag != 0x7FE00010})  # noqa: SIM118
    identity = ResultIdentity.of(
        study_instance_uid=image.StudyInstanceUID,
        input_digest="images",
        model=model,
        settings_digest="settings",
        kind=ResultKind[module.__name__.rpartition(".")[2].upper()],
        sop_class_uid=module.SOP_CLASS_UID,
        template_version=module.TEMPLATE_VERSION,
        patient_header=header,
    )
    provenance = Provenance(
        model,
        ReportingDevice(ae_title="LITEGPT", station_uid="2.25.77", software_version="0.1.0"),
        datetime(2025, 7, 1, 22, 30, 15, tzinfo=UTC),
        ZoneInfo("Europe/Berlin"),
        header,
    )
    return ImageReading(header, tuple(findings)), _Given(identity=identity, provenance=provenance)
