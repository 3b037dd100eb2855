"""A modality: studies of phantoms that nobody has seen, sent again until they are answered with Success."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from litegpt.phantoms import phantom_files
from tests.peers.dcmtk import dcmsend

_STANDING = """
    SELECT count(*), count(*) FILTER (WHERE a.state = 'done'),
        count(*) FILTER (WHERE s.state = 'complete' AND a.state = 'done' AND d.state = 'sent')
    FROM study s
    LEFT JOIN analysis a ON a.id = (SELECT max(id) FROM analysis WHERE study_id = s.id AND counts)
    LEFT JOIN result r ON r.analysis_id = a.id
    LEFT JOIN delivery d ON d.result_id = r.id
"""


@dataclass(frozen=True)
class Answered:
    """An object that was answered with Success: what must be there from then on.

    Attributes:
        sha256: Of the dataset as it was sent.
    """

    study_instance_uid: str
    sop_instance_uid: str
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Answered:
        """That of a file which was sent."""
        header = pydicom.dcmread(file, specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
        return cls(str(header.StudyInstanceUID), str(header.SOPInstanceUID), dataset_digest(file))


def dataset_digest(file: Path) -> str:
    """SHA-256 of the dataset, which begins after preamble, "DICM" and the file meta information."""
    content = file.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()


def new_study(folder: Path, images: int, *, first_phantom: int = 0) -> list[Path]:
    """A study of some phantoms, a file each.

    Args:
        folder: Created.
        images: How many.
        first_phantom: Which of the shipped ones comes first.
    """
    folder.mkdir(parents=True)
    phantoms, uid, files = phantom_files(), generate_uid(), []
    for image in range(images):
        dataset = pydicom.dcmread(phantoms[(first_phantom + image) % len(phantoms)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{image}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def send(port: int, files: Sequence[Path]) -> list[Path]:
    """Sends files, an association each; those that were answered with Success are returned."""
    return [file for file in files if send_together(port, [file])]


def send_together(port: int, files: Sequence[Path], **how: Any) -> list[Path]:
    """Sends files on one association.

    Args:
        port: The listener's.
        files: What is sent.
        **how: As ``dcmsend`` takes it.

    Returns:
        Those that were answered with Success; none where it was cut, though some may have been.
    """
    try:
        return [sent.path for sent in dcmsend(port, *files, **how) if sent.status == 0]
    except (AssertionError, ValueError):  # no association, or it was cut
        return []


@dataclass(frozen=True, order=True)
class Standing:
    """How many studies have come, are read, and are delivered."""

    came: int = 0
    read: int = 0
    delivered: int = 0


def standing(database: str) -> Standing:
    """Where the studies stand; all are 0 while the database is away."""
    engine = create_engine(database, poolclass=NullPool, connect_args={"connect_timeout": 2})
    try:
        with engine.connect() as connection:
            return Standing(*connection.execute(text(_STANDING)).one())
    except DBAPIError:
        return Standing()


def at_rest(database: str, studies: int) -> bool:
    """Whether so many studies came, and all are delivered."""
    return standing(database) == Standing(studies, studies, studies)
