"""Names of results: the same analysis, told in the same form, always has the same UIDs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from pydicom.dataset import Dataset
from pydicom.uid import UID

from litegpt.identity import ModelIdentity
from service.peers import ResultKind
from worker.results.patient_study import patient_header_digest

_NAMESPACE: Final = UUID("6f0c5e54-3c0f-5e0a-9a55-0c1b7b6f3d21")
"""Ours; changing it would rename every result there is."""

SERIES_NUMBERS: Final = {
    ResultKind.STRUCTURED_REPORT: 9701,
    ResultKind.SECONDARY_CAPTURE: 9702,
    ResultKind.PRESENTATION_STATE: 9703,
}
"""Series Number by kind of result: behind the images in a viewer's list, and ours side by side."""


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """What makes a result this one and no other; its UIDs are derived from that.

    Attributes:
        study_instance_uid: The study that was read, and that the result joins.
        input_digest: Digest of the images that were read.
        model_id: Which model.
        model_version: Version of its weights.
        settings_digest: Digest of the node's eligibility rules; thresholds and preprocessing belong to the
            model's version.
        kind: What it is.
        sop_class_uid: Storage SOP class of the result.
        template_version: Version of the form in which the result is told.
        patient_header_digest: Digest of the patient and study attributes written into it.
        not_read_digest: Digest of the reasons where no image could be read, else empty: when the same
            analysis is tried again and succeeds, that is another result.
    """

    study_instance_uid: str
    input_digest: str
    model_id: str
    model_version: str
    settings_digest: str
    kind: ResultKind
    sop_class_uid: str
    template_version: str
    patient_header_digest: str
    not_read_digest: str = ""

    @classmethod
    def of(
        cls,
        *,
        study_instance_uid: str,
        input_digest: str,
        model: ModelIdentity,
        settings_digest: str,
        kind: ResultKind,
        sop_class_uid: str,
        template_version: str,
        patient_header: Dataset,
        not_read: Sequence[str] = (),
    ) -> ResultIdentity:
        """The identity of a result that an analysis by ``model`` will have.

        Args:
            study_instance_uid: The study.
            input_digest: Digest of the images read.
            model: The model that reads.
            settings_digest: Digest of the settings it reads with.
            kind: Kind of result.
            sop_class_uid: Storage SOP class of the result.
            template_version: ``TEMPLATE_VERSION`` of the module that writes the result.
            patient_header: The image header whose patient and study attributes the result carries.
            not_read: Why each image could not be read, where none could.
        """
        return cls(
            study_instance_uid=study_instance_uid,
            input_digest=input_digest,
            model_id=model.id,
            model_version=model.version,
            settings_digest=settings_digest,
            kind=kind,
            sop_class_uid=sop_class_uid,
            template_version=template_version,
            patient_header_digest=patient_header_digest(patient_header),
            not_read_digest=_digest(not_read) if not_read else "",
        )

    @property
    def sop_instance_uid(self) -> UID:
        """SOP Instance UID of the result."""
        return self.uid("instance")

    @property
    def series_instance_uid(self) -> UID:
        """Series Instance UID of the result, which has a series of its own."""
        return self.uid("series")

    @property
    def series_number(self) -> int:
        """Series Number of the result."""
        return SERIES_NUMBERS[self.kind]

    def instance_uid(self, image: str) -> UID:
        """SOP Instance UID of the object for one image, where a result has one for each."""
        return self.uid("instance", image)

    def uid(self, *names: str) -> UID:
        """A UID for something within this result, such as one finding; the same names give the same UID."""
        return derived_uid(
            self.study_instance_uid,
            self.input_digest,
            self.model_id,
            self.model_version,
            self.settings_digest,
            self.kind,
            self.sop_class_uid,
            self.template_version,
            self.patient_header_digest,
            *((self.not_read_digest,) if self.not_read_digest else ()),
            *names,
        )


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def derived_uid(*names: str) -> UID:
    """A ``2.25.`` UID (PS3.5 B.2) from a name-based UUID (RFC 9562 version 5) of the names."""
    return UID(f"2.25.{uuid5(_NAMESPACE, json.dumps(names)).int}")
