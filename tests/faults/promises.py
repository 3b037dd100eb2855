"""What must hold whatever was killed, looked up without the node's own code: SQL, files, and the PACS."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.faults.modality import Answered, dataset_digest
from tests.peers.dcmtk import Received

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
_RESULTS = "SELECT r.sop_instance_uid AS result, r.analysis_id, r.path, r.digest FROM result r"


def broken_promises(
    database: str, archive: Path, pacs: Received, answered: Collection[Answered]
) -> list[str]:
    """Everything that is not as it must be once the node has come to rest; empty is well.

    Args:
        database: The records' SQLAlchemy URL.
        archive: The node's folder of images and results.
        pacs: What the PACS got.
        answered: What was answered with Success.
    """
    engine = create_engine(database, poolclass=NullPool)
    with engine.connect() as connection:
        images, newest, results = (
            [dict(row) for row in connection.execute(text(query)).mappings()]
            for query in (_IMAGES, _NEWEST, _RESULTS)
        )
    reports = _reports(pacs)
    return [
        *_images(archive, images, answered),
        *_deliveries(newest, reports.keys(), {one.study_instance_uid for one in answered}),
        *_pacs(archive, results, reports),
        *_whole(archive, {row["path"] for row in images}, {row["path"]: row["digest"] for row in results}),
    ]


def _reports(pacs: Received) -> dict[str, Path]:
    """The reports at the PACS by SOP Instance UID; it has a file of each, since a second one goes over it."""
    found = {}
    for file in pacs.files():
        header = pydicom.dcmread(file, specific_tags=["SOPInstanceUID", "Modality"])
        if header.Modality == "SR":
            found[str(header.SOPInstanceUID)] = file
    return found


def _images(archive: Path, rows: list[dict[str, Any]], answered: Iterable[Answered]) -> Iterable[str]:
    """Every answered object is recorded once, and its file is there as it was sent."""
    by_uid = Counter(row["sop_instance_uid"] for row in rows)
    row_of = {row["sop_instance_uid"]: row for row in rows}
    for one in answered:
        uid = one.sop_instance_uid
        if by_uid[uid] != 1:
            yield f"{uid} was answered and is recorded {by_uid[uid]} times"
            continue
        path = archive / row_of[uid]["path"]
        if not path.is_file():
            yield f"{uid} was answered and its file is gone"
        elif (digest := dataset_digest(path)) != one.sha256:
            yield f"{uid} is not what was sent"
        elif digest != row_of[uid]["digest"]:
            yield f"{uid} has another digest than is recorded"


def _deliveries(
    rows: list[dict[str, Any]], reports: Collection[str], studies: Collection[str]
) -> Iterable[str]:
    """Every study has one current result, delivered once to the destination."""
    of_study = Counter(row["study"] for row in rows)
    for study in studies:
        if of_study[study] != 1:
            yield f"study {study} has {of_study[study]} current results"
    for row in rows:
        if (row["state"], row["delivery"]) != ("done", "sent"):
            yield f"study {row['study']} is {row['state']}, its result {row['delivery']}"
        elif row["result"] not in reports:
            yield f"study {row['study']}: {row['result']} is recorded as sent and not at the PACS"


def _pacs(archive: Path, rows: list[dict[str, Any]], reports: dict[str, Path]) -> Iterable[str]:
    """The PACS holds one report of an analysis at most, as the node has it, and none that is unknown."""
    row_of = {row["result"]: row for row in rows}
    for uid, file in reports.items():
        if uid not in row_of:
            yield f"the PACS holds {uid}, which the node does not know"
        elif dataset_digest(file) != dataset_digest(archive / row_of[uid]["path"]):
            yield f"the PACS holds {uid} with other bytes than the node"
    of_analysis = Counter(row_of[uid]["analysis_id"] for uid in reports if uid in row_of)
    for analysis, count in of_analysis.items():
        if count != 1:
            yield f"the PACS holds {count} reports of analysis {analysis}"


def _whole(archive: Path, compared: set[str], results: dict[str, str]) -> Iterable[str]:
    """No file in the archive was half written in its place.

    Args:
        archive: The node's.
        compared: Images that are recorded: all their bytes were compared with what was sent.
        results: Results that are recorded, with the digests of their files.
    """
    for file in (*(archive / "images").rglob("*.dcm"), *(archive / "results").rglob("*.dcm")):
        path = str(file.relative_to(archive))
        if path in compared:
            continue
        if path in results:
            if hashlib.sha256(file.read_bytes()).hexdigest() != results[path]:
                yield f"{path} is not what is recorded"
        elif not _can_be_read(file):
            yield f"{path} is not whole"


def _can_be_read(file: Path) -> bool:
    """Whether a file can be read to its end."""
    try:
        pydicom.dcmread(file).to_json_dict()
    except (OSError, EOFError, ValueError):
        return False
    return True
