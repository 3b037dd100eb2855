"""A modality that sends studies one after another, all the time, and remembers what it was answered."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.beside import Beside
from tests.images import make_radiograph
from tests.peers.dcmtk import dcmsend
from tests.waiting import wait_until

IMAGES_OF_EACH: Final = 12
"""Of a study: one that is read, and others that are only kept."""


class Modality(Beside):
    """Sends in a thread of its own until the block ends.

    Attributes:
        ports: Where images go, in turn; may be changed meanwhile.
        answered: The files that were answered with Success.
        refused: What came instead, of the others.
        studies: How many were begun.
    """

    def __init__(self, folder: Path, *ports: int) -> None:
        self.ports = list(ports)
        self.answered: list[Path] = []
        self.refused: list[str] = []
        self.studies = 0
        self._folder = folder
        super().__init__({"modality": self._send})
        folder.mkdir()

    def wait_for_more(self, images: int) -> None:
        """Waits until so many more are answered."""
        goal = len(self.answered) + images
        wait_until(lambda: self.refused or len(self.answered) >= goal, 60, f"{images} more images answered")

    def _send(self) -> None:
        while not self._over.is_set():
            self.studies += 1
            for number, image in enumerate(_study()):
                file = self._folder / f"{self.studies:04d}-{number}.dcm"
                image.save_as(file, enforce_file_format=True)
                self._send_one(file, self.ports[number % len(self.ports)])

    def _send_one(self, file: Path, port: int) -> None:
        try:
            (reply,) = dcmsend(port, file)
        except (AssertionError, ValueError) as error:
            self.refused.append(f"{file.name} at {port}: {error}")
            return
        if reply.status == 0:
            self.answered.append(file)
        else:
            self.refused.append(f"{file.name} at {port}: {reply.status}")


def _study() -> list[Dataset]:
    uid = generate_uid()
    laterals = [make_radiograph(study_uid=uid, ViewPosition="LL") for _ in range(IMAGES_OF_EACH - 1)]
    return [make_radiograph(study_uid=uid), *laterals]
