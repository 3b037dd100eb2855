"""How long ``litegpt-train inspect`` takes over a file of VinBigData's size: 67,914 rows, 15,000 images.

    python benchmarks/inspect_vinbigdata.py [--repeats 5]

The rows are made up, in the shape of the real ones: 10,606 images on which three readers agree that there is
nothing, the others with boxes of three readers, all rows shuffled. Runs without images and with 15,000 empty
files beside the CSV take turns; each is a whole process, from the start of Python on. Prints the medians.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from training.datasets.label_tables import VINBIGDATA_CLASSES
from training.datasets.vinbigdata import LAYOUT

IMAGES = 15_000
NORMAL = 10_606
ROWS = 67_914

Row = tuple[object, ...]


def image_ids() -> list[str]:
    """Names of the form that VinDr-CXR's images have."""
    return [hashlib.md5(str(number).encode()).hexdigest() for number in range(IMAGES)]


def rows(rng: random.Random) -> list[Row]:
    """As many rows as the real file has."""
    ids = image_ids()
    readers = [f"R{number}" for number in range(1, 18)]
    written: list[Row] = []
    for image_id in ids[:NORMAL]:
        written += [(image_id, "No finding", 14, reader, "", "", "", "") for reader in rng.sample(readers, 3)]
    trios = {image_id: rng.sample(readers, 3) for image_id in ids[NORMAL:]}
    marked = [(image_id, reader) for image_id, trio in trios.items() for reader in trio]
    marked += rng.choices(marked, k=ROWS - len(written) - len(marked))
    for image_id, reader in marked:
        number = rng.randrange(14)
        left, top = rng.uniform(0, 1500), rng.uniform(0, 1500)
        right, bottom = left + rng.uniform(10, 800), top + rng.uniform(10, 800)
        corners = (round(left, 4), round(top, 4), round(right, 4), round(bottom, 4))
        written.append((image_id, VINBIGDATA_CLASSES[number], number, reader, *corners))
    rng.shuffle(written)
    return written


def write(folder: Path, *, with_images: bool) -> None:
    """Writes ``train.csv``, and on request an empty file for each image."""
    folder.mkdir()
    with (folder / "train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(LAYOUT)
        writer.writerows(rows(random.Random(0)))
    if with_images:
        (folder / "train").mkdir()
        for image_id in image_ids():
            (folder / "train" / f"{image_id}.dicom").touch()


def seconds(folder: Path) -> float:
    """Wall-clock seconds of one run of the command."""
    command = [sys.executable, "-m", "training.cli", "inspect", "vinbigdata", str(folder), "--json"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Runs both in turn and prints the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"without images": Path(temporary, "without"), "with images": Path(temporary, "with")}
        for name, folder in folders.items():
            write(folder, with_images=name == "with images")
        taken: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(repeats):
            for name, folder in folders.items():
                taken[name].append(seconds(folder))
    for name, values in taken.items():
        print(f"{name}: median {statistics.median(values):.2f} s, worst {max(values):.2f} s of {repeats}")


if __name__ == "__main__":
    main()
