"""dcmtk's archive and its clients: dcmqrscp keeps what it gets; findscu, getscu and movescu ask for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset

from tests.peers.dcmtk import PACKAGE, run_program
from tests.ports import free_port, listens
from tests.presence import program
from tests.processes import running

CLIENT: Final = "CLIENT"
"""Application Entity title of findscu, getscu and movescu."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where an archive answers."""

    ae_title: str
    port: int

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{self.ae_title}@127.0.0.1:{self.port}"

    def find(self, level: str, **keys: str) -> list[Dataset]:
        """The identifiers that findscu gets at a level, STUDY, SERIES or IMAGE; empty keys ask for values.

        Raises:
            AssertionError: If it ends otherwise than with Success; the text is what findscu said.
        """
        with tempfile.TemporaryDirectory(prefix="findscu-") as folder:
            self._ask("findscu", ("-X", "-od", folder), level, keys)
            return [pydicom.dcmread(file, force=True) for file in sorted(Path(folder).glob("rsp*.dcm"))]

    def get(self, folder: Path, level: str, **keys: str) -> list[Dataset]:
        """What getscu receives, on its own association (C-GET)."""
        folder.mkdir(parents=True)
        self._ask("getscu", ("-od", str(folder)), level, keys)
        return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]

    def move(self, to_ae_title: str, level: str, **keys: str) -> None:
        """Has the archive send to somebody whom it knows (C-MOVE), and waits for the end."""
        self._ask("movescu", ("-aem", to_ae_title), level, keys)

    def _ask(self, client: str, options: Sequence[str], level: str, keys: Mapping[str, str]) -> None:
        wanted = {"QueryRetrieveLevel": level, **keys}
        ended = run_program(
            client,
            *("-v", "-S", "-to", "10", "-aet", CLIENT, "-aec", self.ae_title),
            *options,
            *(part for keyword, value in wanted.items() for part in ("-k", f"{keyword}={value}")),
            "127.0.0.1",
            str(self.port),
            package=PACKAGE,
        )
        if not ended.succeeded or "(Success)" not in ended.output:
            raise AssertionError(f"{client} ended with {ended.returncode}:\n{ended.output}")


@contextmanager
def dcmqrscp(
    folder: Path, *, ae_title: str = "DCMQRSCP", knows: Mapping[str, int], takes: Sequence[str] = ()
) -> Iterator[Archive]:
    """A dcmqrscp with an empty store.

    Args:
        folder: Created; holds the configuration, the store and the log.
        ae_title: Its own title.
        knows: Ports at 127.0.0.1 that it may send to, by their titles.
        takes: dcmtk's names of the only SOP classes that it takes; none for all that it knows.
    """
    port, store = free_port(), folder / "store"
    store.mkdir(parents=True)
    hosts = [f"{name.lower()} = ({name}, 127.0.0.1, {theirs})" for name, theirs in knows.items()]
    lines = [
        *(f"NetworkTCPPort = {port}", "MaxPDUSize = 131072", "MaxAssociations = 16"),
        *("HostTable BEGIN", *hosts, "HostTable END"),
        *("VendorTable BEGIN", "VendorTable END"),
        *("AETable BEGIN", f"{ae_title} {store} RW (200, 1024mb) ANY", "AETable END"),
    ]
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text("\n".join(lines) + "\n")
    command: list[str | Path] = [program("dcmqrscp", package=PACKAGE), "-v", "-c", configuration]
    if takes:
        command += ["-xf", _profile(folder, takes), "Only", "Only"]
    with running(command, log=folder / "dcmqrscp.log", environment={"TCP_NODELAY": "1"}) as process:
        process.wait_until(lambda: listens(port), 10, "dcmqrscp listening")
        yield Archive(ae_title, port)


def _profile(folder: Path, sop_classes: Sequence[str]) -> Path:
    """An association profile called Only, for these and for asking."""
    services = ("VerificationSOPClass", "FINDStudyRootQueryRetrieveInformationModel", *sop_classes)
    contexts = (
        f"PresentationContext{number} = {name}\\Only" for number, name in enumerate(services, start=1)
    )
    lines = [
        *("[[TransferSyntaxes]]", "[Only]", "TransferSyntax1 = LittleEndianExplicit"),
        *("[[PresentationContexts]]", "[Only]", *contexts),
        *("[[Profiles]]", "[Only]", "PresentationContexts = Only"),
    ]
    file = folder / "profile.cfg"
    file.write_text("\n".join(lines) + "\n")
    return file
