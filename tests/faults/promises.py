"""What must hold whatever was killed, looked up without the node's own code: SQL, files, and the PACS."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.faults.rig import Rig

_IMAGES = """
    SELECT i.sop_instance_uid, i.path, i.digest, i.state FROM instance i
"""
_NEWEST = """
    SELECT s.study_instance_uid AS study, a.state, r.sop_instance_uid AS result, d.destination,
           d.state AS delivery
    FROM study s
    JOIN analysis a ON a.id = (SELECT max(id) FROM analysis WHERE study_id = s.id AND counts)
    LEFT JOIN result r ON r.analysis_id = a.id
    LEFT JOIN delivery d ON d.result_id = r.id
"""
_RESULTS = "SELECT r.sop_instance_uid AS result, r.analysis_id FROM result r"


def broken_promises(rig: Rig, answered: Iterable[Path]) -> list[str]:
    """Everything that is not as it must be once the node has come to rest; empty is well.

    Args:
        rig: The node.
        answered: The files that were answered with Success, each an object of its own.
    """
    engine = create_engine(rig.database, poolclass=NullPool)
    with engine.connect() as connection:
        images, newest, results = (
            [dict(row) for row in connection.execute(text(query)).mappings()]
            for query in (_IMAGES, _NEWEST, _RESULTS)
        )
    reports = [report for report in rig.pacs.datasets() if report.Modality == "SR"]
    return [
        *_images(rig, images, answered),
        *_deliveries(rig, newest, answered),
        *_pacs(results, Counter(str(report.SOPInstanceUID) for report in reports)),
        *_whole(rig),
    ]


def _images(rig: Rig, rows: list[dict[str, Any]], answered: Iterable[Path]) -> Iterable[str]:
    """Every answered object is recorded once, and its file is there as it was sent."""
    by_uid = Counter(row["sop_instance_uid"] for row in rows)
    path_of = {row["sop_instance_uid"]: rig.data_dir / row["path"] for row in rows}
    digest_of = {row["sop_instance_uid"]: row["digest"] for row in rows}
    for file in answered:
        sent = pydicom.dcmread(file)
        uid = str(sent.SOPInstanceUID)
        if by_uid[uid] != 1:
            yield f"{uid} was answered and is recorded {by_uid[uid]} times"
        elif not path_of[uid].is_file():
            yield f"{uid} was answered and its file is gone"
        elif pydicom.dcmread(path_of[uid]) != sent:
            yield f"{uid} is not what was sent"
        elif _digest(path_of[uid]) != digest_of[uid]:
            yield f"{uid} has another digest than is recorded"


def _digest(file: Path) -> str:
    """SHA-256 of the dataset, which begins after preamble, "DICM" and the file meta information."""
    content = file.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()


def _deliveries(rig: Rig, rows: list[dict[str, Any]], answered: Iterable[Path]) -> Iterable[str]:
    """Every study has one current result, delivered once to the destination."""
    of_study = Counter(row["study"] for row in rows)
    for study in {str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID) for file in answered}:
        if of_study[study] != 1:
            yield f"study {study} has {of_study[study]} current results"
    at_pacs = {str(report.SOPInstanceUID) for report in rig.pacs.datasets()}
    for row in rows:
        if (row["state"], row["delivery"]) != ("done", "sent"):
            yield f"study {row['study']} is {row['state']}, its result {row['delivery']}"
        elif row["result"] not in at_pacs:
            yield f"study {row['study']}: {row['result']} is recorded as sent and not at the PACS"


def _pacs(rows: list[dict[str, Any]], reports: Counter[str]) -> Iterable[str]:
    """The PACS holds one report of an analysis at most, and none that the node does not know."""
    analysis_of = {row["result"]: row["analysis_id"] for row in rows}
    for uid in reports:
        if uid not in analysis_of:
            yield f"the PACS holds {uid}, which the node does not know"
    for analysis, count in Counter(analysis_of[uid] for uid in reports if uid in analysis_of).items():
        if count != 1:
            yield f"the PACS holds {count} reports of analysis {analysis}"


def _whole(rig: Rig) -> Iterable[str]:
    """Every file in the archive can be read to its end: none was half written in its place."""
    for folder in ("images", "results"):
        for file in (rig.data_dir / folder).rglob("*.dcm"):
            try:
                pydicom.dcmread(file).to_json_dict()
            except (OSError, EOFError, ValueError) as error:
                yield f"{file.name} in the archive is not whole: {error}"
