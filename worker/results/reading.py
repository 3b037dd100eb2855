"""What a result is made of: images with what was found in them, and the device that speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.vocabulary import NO_FINDING
from worker.results.identity import derived_uid

MANUFACTURER: Final = "LiteGPT"


@dataclass(frozen=True)
class ImageReading:
    """One image of the study and what became of it.

    Attributes:
        header: The image's attributes, without Pixel Data.
        findings: What the model says, boxes in pixels of the image's own matrix; also what is not reported.
        not_read: Why the image was not read; ``None`` where it was.
    """

    header: Dataset
    findings: tuple[Finding, ...] = ()
    not_read: str | None = None

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the image."""
        return str(self.header.SOPInstanceUID)

    @property
    def positive(self) -> tuple[Finding, ...]:
        """Every reported finding but "No finding"; without any the report says itself that there is none."""
        return tuple(finding for finding in self.findings if finding.reported and finding.label != NO_FINDING)

    @property
    def no_finding(self) -> Finding | None:
        """The model's own "No finding", where it said so."""
        return next((finding for finding in self.findings if finding.label == NO_FINDING), None)


@dataclass(frozen=True, slots=True)
class ReportingDevice:
    """The node, as the equipment that makes a result (PS3.3 C.7.5.1, PS3.16 TID 1004).

    Attributes:
        ae_title: Application Entity title of the node.
        station_uid: UID of this installation.
        software_version: Version of the node's software.
        manufacturer: Maker of the node.
        model_name: Product name of the node.
    """

    ae_title: str
    station_uid: str
    software_version: str
    manufacturer: str = MANUFACTURER
    model_name: str = "LiteGPT node"

    def algorithm_uid(self, algorithm: ModelIdentity) -> UID:
        """Device UID of one version of one model as installed here (IHE AIR 6.5.3.1)."""
        return derived_uid("algorithm", self.station_uid, algorithm.id, algorithm.version)
