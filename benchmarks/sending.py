"""What is sent in a benchmark of receivers, and how: dcmtk's storescu, one process an association."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from benchmarks.receivers import AT_ONCE, PDU_BYTES

IMAGES_OF_A_STUDY: Final = 2
_AT_MOST: Final = 600.0


@dataclass(frozen=True, slots=True)
class Form:
    """Images of one size, 16 bits a pixel.

    Attributes:
        rows, columns: In pixels.
        number: Sent over associations that last.
        number_apart: Sent over one association each.
    """

    name: str
    rows: int
    columns: int
    number: int
    number_apart: int

    @property
    def bytes(self) -> int:
        """Of an image's pixels."""
        return 2 * self.rows * self.columns


BIG: Final = Form("10 MB", 2500, 2048, 40, 20)
SMALL: Final = Form("0.5 MB", 512, 512, 200, 60)


@dataclass(frozen=True, slots=True)
class Workload:
    """So many images over so many associations at once.

    Attributes:
        associations: At once; 0 is one after the other, each for one image.
        files: What is sent, each file once in all rounds of a receiver.
    """

    form: Form
    associations: int
    files: Sequence[Path]

    @property
    def name(self) -> str:
        """For tables."""
        how = f"{self.associations} at once" if self.associations else "one an image"
        return f"{self.form.name}, {how}"

    def send(self, port: int) -> float:
        """Sends everything; the seconds that this took are returned.

        Raises:
            ChildProcessError: If a sender did not get Success for everything.
        """
        start = time.perf_counter()
        if not self.associations:
            for file in self.files:
                _await([_begin(port, [file])])
        else:
            shares = [self.files[number :: self.associations] for number in range(self.associations)]
            _await([_begin(port, share) for share in shares])
        return time.perf_counter() - start


def workloads(folder: Path, forms: Sequence[Form], associations: Sequence[int]) -> Iterator[Workload]:
    """All of them, their files written."""
    for form in forms:
        for number in associations:
            count = form.number if number else form.number_apart
            yield Workload(form, number, _written(folder / f"{form.rows}-{number}", form, count))


def _written(folder: Path, form: Form, number: int) -> list[Path]:
    folder.mkdir(parents=True)
    luck = np.random.default_rng(form.rows)
    pixels = luck.integers(0, 4096, form.rows * form.columns, dtype=np.uint16)
    files = []
    for image in range(number):
        if image % IMAGES_OF_A_STUDY == 0:
            study = generate_uid()
        files.append(folder / f"{image:04d}.dcm")
        _radiograph(form, study, np.roll(pixels, image)).save_as(files[-1], enforce_file_format=True)
    return files


def _radiograph(form: Form, study: str, pixels: np.ndarray) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyInstanceUID = study
    dataset.PatientID, dataset.PatientName = "BENCHMARK", "Benchmark"
    dataset.StudyDate, dataset.AccessionNumber = "20260101", "1"
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = form.rows, form.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    return dataset


def _begin(port: int, files: Sequence[Path]) -> subprocess.Popen[bytes]:
    command = ["storescu", "-xe", "-R", "--max-send-pdu", str(PDU_BYTES), "127.0.0.1", str(port), *files]
    return subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **AT_ONCE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _await(senders: Sequence[subprocess.Popen[bytes]]) -> None:
    for sender in senders:
        output, _ = sender.communicate(timeout=_AT_MOST)
        if sender.returncode:
            raise ChildProcessError(f"storescu ended with {sender.returncode}: {output.decode()[-500:]}")
