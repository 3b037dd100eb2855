"""Hours of damaged files, led by the branches that they reach: atheris over the node's readers.

    pip install atheris
    python -m tests.fuzz.campaign FOLDER -max_total_time=3600

``FOLDER`` keeps what reached something new, and is gone on from. A file that raises what no reader may raise
stops the campaign and is written to the working directory: as ``tests/fuzz/found/<what>.dcm`` each test run
reads it. Other options are libFuzzer's.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pydicom", "service.received", "service.rules", "litegpt"]):
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
    )

    from litegpt.errors import RadiographError
    from litegpt.radiograph import read_radiograph
    from service.errors import NodeError
    from service.received import examine
    from service.rules.facts import Facts

from tests.images import make_radiograph

SEEDS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless)
FILE = Path(tempfile.mkdtemp(prefix="fuzz-")) / "file.dcm"


def one_file(content: bytes) -> None:
    """Reads a file as the listener does, then as the worker does."""
    FILE.write_bytes(content)
    with suppress(NodeError):
        received = examine(FILE)
        Facts.of(received.header, "MODALITY", "LITEGPT").kept()
    with suppress(RadiographError):
        read_radiograph(FILE, maximum_pixels=1_000_000)


def main() -> None:
    """Begins with small sound files, and goes on for ever or until a limit that libFuzzer is given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, syntax in enumerate(SEEDS):
        seed = make_radiograph(rows=64, columns=48, transfer_syntax=syntax)
        seed.save_as(folder / f"seed-{number}", enforce_file_format=True)
    atheris.Setup([sys.argv[0], "-max_len=20000", *sys.argv[1:]], one_file)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
