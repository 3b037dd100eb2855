"""How fast a DICOM file becomes the tensor that the model sees, beside pydicom and Pillow.

    python -m benchmarks.decode [--images 4] [--rounds 5] [--only NAME …] [--out FILE]

Phantoms of 2500 × 2048 pixels of 12 bits (8 for JPEG Baseline) are written in each transfer syntax. Ours:
`read_squares`, then normalised. The peer: `dcmread(file).pixel_array`, Pillow's bicubic resize of the stored
values as they are, and only then the window, of 224 × 224 values: the cheapest way there is with the two, and
not quite the right one. Both in one process with one thread, file after file in turn; the files are in the
memory of the system. Ratios of processor time are taken within a round. Ctrl-C ends it and keeps what was
measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from benchmarks import machine, markdown
from litegpt.preprocessing import Preprocessing
from litegpt.radiograph import read_radiograph
from litegpt.squares import read_squares
from training.phantom.collection import fresh_phantoms
from training.phantom.dicom import DicomForm, phantom_dataset

_FORM: Final = DicomForm("DX", 2500, 2048, 12, "MONOCHROME2", ExplicitVRLittleEndian)
_SEED: Final = 20_260
_PREPARE: Final = Preprocessing()
_COLUMNS: Final = (
    *("transfer syntax", "× peer", "least–most", "ms ours", "ms peer", "MB a file"),
    *("largest difference", "mean difference"),
)

Write = Callable[[Dataset, Path], None]


def _plain(syntax: UID) -> Write:
    def write(dataset: Dataset, path: Path) -> None:
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, enforce_file_format=True)

    return write


def _compressed(syntax: UID, **options: Any) -> Write:
    def write(dataset: Dataset, path: Path) -> None:
        dataset.compress(syntax, generate_instance_uid=False, **options)
        dataset.save_as(path, enforce_file_format=True)

    return write


def _jpeg(*options: str) -> Write:
    """Written by dcmtk, since pydicom writes no JPEG."""

    def write(dataset: Dataset, path: Path) -> None:
        plain = path.with_suffix(".plain")
        dataset.save_as(plain, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", *options, plain, path], check=True)
        plain.unlink()

    return write


@dataclass(frozen=True, slots=True)
class Kind:
    """A transfer syntax, and how a file of it is written.

    Attributes:
        goal: Times the peer, at least.
    """

    name: str
    write: Write
    bits_stored: int = 12
    goal: float = 1.0


KINDS: Final = (
    Kind("Explicit VR Little Endian", _plain(ExplicitVRLittleEndian)),
    Kind("Implicit VR Little Endian", _plain(ImplicitVRLittleEndian)),
    Kind("Explicit VR Big Endian", _plain(ExplicitVRBigEndian)),
    Kind("Deflated Explicit VR Little Endian", _plain(DeflatedExplicitVRLittleEndian)),
    Kind("RLE Lossless", _compressed(RLELossless)),
    Kind("JPEG Baseline", _jpeg("+eb"), bits_stored=8),
    Kind("JPEG Lossless", _jpeg("+el")),
    Kind("JPEG Lossless SV1", _jpeg("+e1")),
    Kind("JPEG-LS Lossless", _compressed(JPEGLSLossless)),
    Kind("JPEG-LS Near-Lossless", _compressed(JPEGLSNearLossless, jls_error=2)),
    Kind("JPEG 2000 Lossless", _compressed(JPEG2000Lossless), goal=3.0),
    Kind("JPEG 2000, 15:1", _compressed(JPEG2000, j2k_cr=[15]), goal=3.0),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One file read by both; processor time in seconds.

    Attributes:
        largest, mean: Difference of our square from that of the whole image, in gray levels of 255.
    """

    round: int
    kind: str
    ours: float
    peer: float
    file_bytes: int
    largest: int
    mean: float


def ours(path: Path) -> torch.Tensor:
    """A file as a tensor of (1, 3, 224, 224)."""
    (square,) = read_squares(path, [_PREPARE.size]).squares
    return _PREPARE.normalise(torch.from_numpy(square.copy())[None])


def peer(path: Path) -> torch.Tensor:
    """The same with pydicom and Pillow alone."""
    dataset = dcmread(path)
    stored = Image.fromarray(dataset.pixel_array)
    small = np.asarray(stored.resize((_PREPARE.size, _PREPARE.size), Image.Resampling.BICUBIC))
    width = float(dataset.WindowWidth)
    low = float(dataset.WindowCenter) - width / 2
    shown = np.clip((small.astype(np.float32) - low) / width, 0, 1) * 255
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    return _PREPARE.normalise(torch.from_numpy(shown.astype(np.uint8))[None])


def write_files(kinds: Sequence[Kind], images: int, folder: Path) -> Iterator[tuple[Kind, Path]]:
    """The same phantoms in every kind."""
    for number, item in enumerate(fresh_phantoms(images, _SEED)):
        for kind in kinds:
            form = replace(_FORM, bits_stored=kind.bits_stored)
            path = folder / f"{kind.name}-{number}.dcm".replace(" ", "-").replace(":", "-")
            kind.write(phantom_dataset(item.phantom, form, item.label), path)
            yield kind, path


def run(files: Sequence[tuple[Kind, Path]], rounds: int) -> Iterator[Sample]:
    """Reads every file, by both in turn, round after round."""
    differences = {path: _difference(path) for _, path in files}
    for _, path in files:
        peer(path)  # both once before the clock runs
    for number in range(rounds):
        for kind, path in files:
            first, second = (ours, peer) if number % 2 else (peer, ours)
            seconds = {first: _seconds(first, path)}
            seconds[second] = _seconds(second, path)
            largest, mean = differences[path]
            size = path.stat().st_size
            yield Sample(number, kind.name, seconds[ours], seconds[peer], size, largest, mean)


def _difference(path: Path) -> tuple[int, float]:
    (square,) = read_squares(path, [_PREPARE.size]).squares
    whole = _PREPARE.squash(read_radiograph(path).pixels)
    difference = np.abs(square.astype(int) - whole)
    return int(difference.max()), float(difference.mean())


def _seconds(read: Callable[[Path], torch.Tensor], path: Path) -> float:
    start = time.process_time()
    read(path)
    return time.process_time() - start


def ratios(samples: Sequence[Sample], kind: str) -> list[float]:
    """Times the peer, of each round: all its files together."""
    rounds: dict[int, list[Sample]] = {}
    for one in samples:
        if one.kind == kind:
            rounds.setdefault(one.round, []).append(one)
    return [sum(one.peer for one in some) / sum(one.ours for one in some) for some in rounds.values()]


def table(samples: Sequence[Sample]) -> str:
    """Ratios first, for people."""
    rows = []
    for name in dict.fromkeys(one.kind for one in samples):
        own, found = [one for one in samples if one.kind == name], ratios(samples, name)
        rows.append(
            (
                name,
                f"{statistics.median(found):.2f}",
                f"{min(found):.2f}–{max(found):.2f}",
                f"{1000 * statistics.median(one.ours for one in own):.0f}",
                f"{1000 * statistics.median(one.peer for one in own):.0f}",
                f"{statistics.mean(one.file_bytes for one in own) / 1e6:.1f}",
                str(max(one.largest for one in own)),
                f"{max(one.mean for one in own):.2f}",
            )
        )
    return markdown.table(_COLUMNS, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4, help="phantoms, each in every transfer syntax")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="transfer syntaxes that begin so")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kinds = [kind for kind in KINDS if not asked.only or kind.name.startswith(tuple(asked.only))]
    samples: list[Sample] = []
    load = [machine.load_average()]
    interrupted = False
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = []
            for kind, path in write_files(kinds, asked.images, Path(folder)):
                files.append((kind, path))
                print(f"\rwriting {len(files)} of {asked.images * len(kinds)}", end="", file=sys.stderr)
            for one in run(files, asked.rounds):
                samples.append(one)
                print(f"\rround {one.round + 1} of {asked.rounds}: {one.kind:40}", end="", file=sys.stderr)
        except KeyboardInterrupt:
            interrupted = True
    print(f"\n{table(samples)}", file=sys.stderr)
    goals = {kind.name: kind.goal for kind in kinds}
    found = {name: ratios(samples, name) for name in goals}
    result = {
        "interrupted": interrupted,
        "load_average": [*load, machine.load_average()],
        "goals": {
            name: {"wanted": goals[name], "times_peer": statistics.median(some)}
            for name, some in found.items()
            if some
        },
        "samples": [asdict(one) for one in samples],
    }
    machine.report("decode", asked.out, result)
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
