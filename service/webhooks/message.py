"""What a webhook is told of an analysis: JSON, the same bytes however often it is asked for."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import select

from litegpt.boxes import Box
from service.archive import Archive
from service.patient import read_patient
from service.records import conclusions
from service.records.conclusions import Concluded, ImageOutcome
from service.records.database import Records
from service.records.tables import Analysis, Study

ANALYSIS: Final = "analysis"
TEST: Final = "test"
"""What a message is about, its ``type``."""


def message_of(records: Records, archive: Archive, analysis_id: int, *, tell_patient: bool) -> bytes:
    """The body that tells of an analysis.

    Raises:
        NeverAgain: If the analysis is not done.
        OutOfResources: If the records are away.
    """
    concluded = conclusions.concluded(records, analysis_id)
    with records.reading() as session:
        study = session.scalars(select(Study).join(Analysis).where(Analysis.id == analysis_id)).one()
    message = {
        "type": ANALYSIS,
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "study_date": study.study_date,
        "analysis_id": analysis_id,
        "finished_at": concluded.finished_at.isoformat(),
        "model": {"id": concluded.model.id, "version": concluded.model.version},
        "demonstration": concluded.model.demonstration,
        "images": _images(concluded),
        "findings": _findings(concluded),
    }
    if tell_patient:
        patient = read_patient(archive.absolute(concluded.claim.patient_header_path))
        message["patient"] = {"name": patient.name, "id": patient.id} if patient else None
    return _written(message)


def trial_message() -> bytes:
    """A body that says nothing, to try a receiver with."""
    return _written({"type": TEST, "demonstration": True})


def _images(concluded: Concluded) -> list[dict[str, Any]]:
    return [
        {"sop_instance_uid": image.sop_instance_uid, "not_read": outcome.not_read or None}
        for image, outcome in zip(concluded.claim.images, concluded.outcomes, strict=True)
    ]


def _findings(concluded: Concluded) -> list[dict[str, Any]]:
    """Those that results tell, in the order in which they stand in the records."""
    return [
        finding
        for image, outcome in zip(concluded.claim.images, concluded.outcomes, strict=True)
        for finding in _of_image(image.sop_instance_uid, outcome)
    ]


def _of_image(sop_instance_uid: str, outcome: ImageOutcome) -> list[dict[str, Any]]:
    return [
        {
            "label": finding.label,
            "score": finding.score,
            "box": _corners(finding.box) if finding.box else None,
            "sop_instance_uid": sop_instance_uid,
        }
        for finding in outcome.findings
        if finding.reported
    ]


def _corners(box: Box) -> list[float]:
    """Left, top, right, bottom, in pixels of the image's own matrix."""
    return [box.x_min, box.y_min, box.x_max, box.y_max]


def _written(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
