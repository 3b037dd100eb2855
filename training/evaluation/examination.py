"""A model reads the images of a test set, one after the other, whatever becomes of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from litegpt.engine import Engine
from litegpt.errors import RadiographError
from litegpt.findings import Reading
from litegpt.radiograph import Radiograph
from training.datasets.example import Size
from training.errors import TrainingError
from training.evaluation.journal import IMAGES_NAME, Examined, Journal
from training.evaluation.subject import Subject

PICTURE_SIDE: Final = 768
"""Longest side of a kept picture in pixels."""


class Examination:
    """One run of a model over a test set. What an image cannot be read for is its reading's ``failure``."""

    def __init__(self, engine: Engine, journal: Journal | None = None, *, pictures: bool = False) -> None:
        """Args:
        engine: Reads.
        journal: Keeps the readings; what is in it already is not read anew, unless it failed.
        pictures: Whether to keep small pictures of the images beside the journal.
        """
        self._engine = engine
        self._journal = journal
        self._pictures = journal.folder if journal and pictures else None
        self._sizes: dict[str, Size] = {}

    def of(self, subjects: Iterable[Subject]) -> Iterator[Examined]:
        """Each image examined, not always in the same order: those read before come at once.

        Raises:
            TrainingError: If the truth of an image is not what it was when it was read, or a picture cannot
                be kept.
        """
        before: list[Examined] = []
        for read in self._engine.read_ahead(self._unread(subjects, before), self._load, candidates=True):
            yield from _emptied(before)
            yield self._examined(read.item, read.came)
        yield from _emptied(before)

    def _unread(self, subjects: Iterable[Subject], before: list[Examined]) -> Iterator[Subject]:
        for subject in subjects:
            known = self._journal.known.get(subject.image_id) if self._journal else None
            if known is None or known.reading.failure is not None:  # a file may have come back
                yield subject
                continue
            if known.case != subject.case(Size(known.case.columns, known.case.rows)):
                raise TrainingError(
                    f"the truth of {subject.image_id} is not what it was when it was read: "
                    "choose another --out"
                )
            before.append(known)

    def _load(self, subject: Subject) -> Radiograph:
        radiograph = subject.load()
        self._sizes[subject.image_id] = Size(radiograph.columns, radiograph.rows)
        if self._pictures:
            _keep_picture(radiograph, self._pictures / picture_path(subject.image_id))
        return radiograph

    def _examined(self, subject: Subject, came: Reading | RadiographError | OSError) -> Examined:
        size = self._sizes.pop(subject.image_id, None)
        reading = came if isinstance(came, Reading) else Reading((), failure=_reason(came))
        examined = Examined(
            image_id=subject.image_id,
            file=str(subject.file) if subject.file else None,
            picture=picture_path(subject.image_id) if self._pictures and size else None,
            case=subject.case(size),
            reading=reading,
        )
        if self._journal:
            self._journal.add(examined)
        return examined


def picture_path(image_id: str) -> str:
    """Of a picture, within the folder; a name may hold what no file's name may."""
    return f"{IMAGES_NAME}/{hashlib.sha256(image_id.encode()).hexdigest()[:16]}.jpg"


def as_picture(radiograph: Radiograph) -> Image.Image:
    """A radiograph made small, gray."""
    picture = Image.fromarray(radiograph.pixels)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return picture


def _keep_picture(radiograph: Radiograph, path: Path) -> None:
    picture = as_picture(radiograph)
    try:
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=88)
    except OSError as error:
        # As an OSError it would be taken for one of the image
        raise TrainingError(f"{path} cannot be written: {error.strerror or error}") from None


def _emptied(waiting: list[Examined]) -> list[Examined]:
    taken = waiting[:]
    del waiting[: len(taken)]
    return taken


def _reason(error: RadiographError | OSError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
