"""A "modality" for the demonstration: it finds DICOM files and pushes them as they are, by C-STORE."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from service.errors import NodeError, SettingsError
from service.peers import Destination
from service.settings import Settings
from service.wire.sender import Sender

_IDENTIFYING: Final = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"]


@dataclass(frozen=True, slots=True)
class OutgoingImage:
    """A file to send, and what identifies it.

    Attributes:
        name: Its path below the folder it was found in.
    """

    path: Path
    name: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class SentImage:
    """A file that was sent: when the node had answered, and what it complained of (empty: Success)."""

    image: OutgoingImage
    at_seconds: float
    complaint: str


def find_images(folder: Path) -> tuple[list[OutgoingImage], int]:
    """The DICOM files in a folder and below, or the one file; and how many other files lie there.

    Raises:
        SettingsError: If there is no such folder, or no DICOM file in it.
    """
    if not folder.exists():
        raise SettingsError(f"no such file or folder: {folder}")
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    images, others = [], 0
    for path in files:
        image = _identify(path, path.name if path == folder else str(path.relative_to(folder)))
        if image is None:
            others += 1
        else:
            images.append(image)
    if not images:
        raise SettingsError(f"no DICOM files in {folder}")
    return images, others


def push(images: Sequence[OutgoingImage], node: Destination, settings: Settings) -> Iterator[SentImage]:
    """Sends images on one association, study after study, and yields each as the node answers.

    Raises:
        PeerUnavailable: If the node does not answer.
        PeerRefused: If it wants none of the images.
    """
    contexts = dict.fromkeys((image.sop_class_uid, (image.transfer_syntax_uid,)) for image in images)
    with Sender(settings).associate(node, list(contexts)) as connection:
        for image in sorted(images, key=lambda image: image.study_instance_uid):
            try:
                connection.store(image.path)
                complaint = ""
            except NodeError as error:
                complaint = str(error)
            yield SentImage(image, time.monotonic(), complaint)


def _identify(path: Path, name: str) -> OutgoingImage | None:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=_IDENTIFYING)
        return OutgoingImage(
            path=path,
            name=name,
            sop_class_uid=str(header.SOPClassUID),
            sop_instance_uid=str(header.SOPInstanceUID),
            study_instance_uid=str(header.StudyInstanceUID),
            transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, ValueError, OSError):
        return None
