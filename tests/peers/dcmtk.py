"""dcmtk's programs: echoscu, dcmsend and storescu send, storescp receives, dsrdump reads reports."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.ports import free_port, listens
from tests.presence import program
from tests.processes import Process, running

PACKAGE: Final = "dcmtk"

# Without it each reply waits about 40 ms for Nagle and the delayed acknowledgement.
ENVIRONMENT: Final = {"TCP_NODELAY": "1"}

STORESCU_OPTION: Final = {
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    DeflatedExplicitVRLittleEndian: "-xd",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
    RLELossless: "-xr",
}
"""What storescu must be told to propose a transfer syntax; it does not look into the file."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program that ran to its end said."""

    returncode: int
    output: str

    @property
    def succeeded(self) -> bool:
        return self.returncode == 0


@dataclass(frozen=True, slots=True)
class Sent:
    """One line of dcmsend's report: an object, and the status it was answered with."""

    path: Path
    sop_instance_uid: str
    status: int | None
    """C-STORE status; ``None`` where the object was not sent or not answered."""


def run_program(
    name: str,
    *arguments: str | Path,
    package: str,
    timeout_seconds: float = 120,
    through: Sequence[str | Path] = (),
) -> Outcome:
    """Runs a program to its end; where ``through`` is a command that runs others, by that.

    Raises:
        subprocess.TimeoutExpired: If it takes longer.
    """
    variables = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
    ended = subprocess.run(
        [*through, "env", *variables, program(name, package=package), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_seconds,
    )
    return Outcome(ended.returncode, (ended.stdout + ended.stderr).decode(errors="replace"))


def echoscu(port: int, *, calling: str = "ECHOSCU", called: str = "LITEGPT") -> Outcome:
    """One C-ECHO to 127.0.0.1."""
    return run_program(
        "echoscu", "-v", "-to", "10", "-aet", calling, "-aec", called, "127.0.0.1", str(port), package=PACKAGE
    )


def dcmsend(
    port: int,
    *paths: Path,
    calling: str = "DCMSEND",
    called: str = "LITEGPT",
    options: Sequence[str] = (),
    reports: Path | None = None,
    host: str = "127.0.0.1",
    through: Sequence[str | Path] = (),
) -> list[Sent]:
    """Sends files as they are, each in its own transfer syntax, on one association if the contexts fit.

    Its report is written where temporary files go, or into a folder of the caller's (``reports``).

    Raises:
        AssertionError: If dcmsend ended before it had tried every file; the text is what it said.
    """
    with tempfile.TemporaryDirectory(prefix="dcmsend-", dir=reports) as folder:
        report = Path(folder) / "report.txt"
        ended = run_program(
            "dcmsend",
            *("-v", "--no-halt", "--decompress-never", "--single-association"),
            *("-to", "10", "--max-send-pdu", "131072"),
            *("-aet", calling, "-aec", called, "--create-report-file", report),
            *options,
            *(host, str(port)),
            *paths,
            package=PACKAGE,
            through=through,
        )
        if not ended.succeeded or not report.is_file():
            raise AssertionError(f"dcmsend ended with {ended.returncode}:\n{ended.output}")
        return _read_report(report.read_text())


def _read_report(text: str) -> list[Sent]:
    sent = []
    for block in re.split(r"\n(?=Number +:)", text):
        fields = dict(re.findall(r"^([A-Z][\w .]*?)\s*: (.*)$", block, re.MULTILINE))
        if "Filename" not in fields:
            continue
        status = re.search(r"0x([0-9A-Fa-f]{4})", fields.get("DIMSE Status", ""))
        sent.append(
            Sent(
                path=Path(fields["Filename"].strip()),
                sop_instance_uid=fields["SOP Instance"].strip(),
                status=int(status.group(1), 16) if status else None,
            )
        )
    return sent


def storescu(port: int, path: Path, *, calling: str = "STORESCU", called: str = "LITEGPT") -> Outcome:
    """Sends one file, proposing the transfer syntax that it has."""
    syntax = UID(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    return run_program(
        "storescu",
        *("-v", "-R", STORESCU_OPTION[syntax], "-to", "10", "-aet", calling, "-aec", called),
        *("127.0.0.1", str(port)),
        path,
        package=PACKAGE,
    )


def dsrdump(path: Path) -> str:
    """The text of a Structured Report.

    Raises:
        AssertionError: If dsrdump cannot read it, or reads it with an error. (Of UTF-8 it always warns.)
    """
    ended = run_program("dsrdump", "--unknown-relationship", path, package=PACKAGE)
    if not ended.succeeded or re.search(r"^[EF]: ", ended.output, re.MULTILINE):
        raise AssertionError(f"dsrdump ended with {ended.returncode}:\n{ended.output}")
    return ended.output


class Received:
    """What a PACS that keeps files has got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """The files that are whole: storescp writes them in place."""
        return [path for path in sorted(self.folder.iterdir()) if _is_whole(path)]

    def datasets(self) -> list[pydicom.Dataset]:
        """What was received and is whole."""
        return [pydicom.dcmread(path) for path in self.files()]


class Storescp(Received):
    """A running storescp: a PACS that keeps what it gets as files."""

    def __init__(self, folder: Path, port: int, ae_title: str, process: Process) -> None:
        super().__init__(folder)
        self.port = port
        self.ae_title = ae_title
        self.process = process

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{self.ae_title}@127.0.0.1:{self.port}"

    def store_requests(self) -> int:
        """How many C-STOREs came; a second one of an object writes over the first one's file."""
        return store_requests(self.process.output())


def store_requests(said: str) -> int:
    """How many C-STOREs came to a storescp that said this."""
    return said.count("Received Store Request")


def _is_whole(path: Path) -> bool:
    try:
        return "SOPInstanceUID" in pydicom.dcmread(path)
    except (InvalidDicomError, EOFError, OSError):
        return False


def storescp_command(
    received: Path, port: int, ae_title: str, options: Sequence[str] = ()
) -> list[str | Path]:
    """What starts a storescp that takes every SOP class in every transfer syntax, into a folder."""
    return [
        program("storescp", package=PACKAGE),
        *("-v", "--fork", "--promiscuous", "--accept-all", "--bit-preserving"),
        *("--max-pdu", "131072", "-aet", ae_title, "-od", received, "-fe", ".dcm"),
        *options,
        str(port),
    ]


@contextmanager
def storescp(
    folder: Path, *, port: int | None = None, ae_title: str = "STORESCP", options: Sequence[str] = ()
) -> Iterator[Storescp]:
    """A storescp that takes every SOP class, known to it or not, in every transfer syntax.

    Args:
        folder: Created; holds ``received/`` and the program's log.
        port: A free one by default.
        ae_title: Its own title.
        options: More of storescp's options, for a peer that misbehaves.
    """
    port = port or free_port()
    received = folder / "received"
    received.mkdir(parents=True, exist_ok=True)
    command = storescp_command(received, port, ae_title, options)
    with running(command, log=folder / "storescp.log", environment=ENVIRONMENT) as process:
        process.wait_until(lambda: listens(port), 10, "storescp listening")
        yield Storescp(received, port, ae_title, process)
