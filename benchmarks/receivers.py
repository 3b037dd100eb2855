"""Those who receive by C-STORE: the node's listener and its peers, each started anew in its own folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.settings import PREFIX
from tests.ports import free_port, listens
from tests.presence import find_program
from tests.processes import Process, running

AT_ONCE: Final = {"TCP_NODELAY": "1"}
"""What tells dcmtk not to wait some 40 ms for the peer's delayed acknowledgement."""

PDU_BYTES: Final = 131072
"""The longest that dcmtk takes."""

_BIN: Final = Path(sys.executable).parent
_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Receiver(ABC):
    """Someone who receives.

    Attributes:
        name: In tables.
    """

    name: str

    @abstractmethod
    def command(self, folder: Path, port: int) -> list[str | Path]:
        """How it is started; what it needs is written into ``folder``."""

    def environment(self, _folder: Path, _port: int) -> Mapping[str, str]:
        """Variables that it is started with."""
        return {}

    @property
    def is_here(self) -> bool:
        """Whether the machine has it."""
        return True

    @contextmanager
    def receiving(self, folder: Path) -> Iterator[tuple[Process, int]]:
        """Runs it until the block ends; gives its process and its port."""
        port = free_port()
        folder.mkdir(parents=True)
        environment = self.environment(folder, port)
        command = self.command(folder, port)
        log = folder.parent / f"{folder.name}.log"
        with running(command, log=log, environment=environment, folder=folder) as process:
            process.wait_until(lambda: listens(port), _START_SECONDS, f"{self.name} listening")
            yield process, port


@dataclass(frozen=True, slots=True)
class Node(Receiver):
    """Our listener, with its archive and its records.

    Attributes:
        settings: More of them.
    """

    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, folder: Path, port: int) -> list[str | Path]:
        """``litegpt-node listen`` on migrated records."""
        variables = {**os.environ, **self.environment(folder, port)}
        subprocess.run([_BIN / "litegpt-node", "migrate"], env=variables, check=True, capture_output=True)
        return [_BIN / "litegpt-node", "listen"]

    def environment(self, folder: Path, port: int) -> Mapping[str, str]:
        """Its settings."""
        settings = {
            "data_dir": str(folder / "data"),
            "dicom_host": "127.0.0.1",
            "dicom_port": str(port),
            "minimum_free_bytes": "0",
            **self.settings,
        }
        return {PREFIX + name.upper(): value for name, value in settings.items()}


@dataclass(frozen=True, slots=True)
class Storescp(Receiver):
    """dcmtk's receiver.

    Attributes:
        options: More of them.
    """

    options: tuple[str, ...] = ()

    def command(self, folder: Path, port: int) -> list[str | Path]:
        """It writes in place, and syncs nothing."""
        return ["storescp", "-pdu", str(PDU_BYTES), "-od", folder, *self.options, str(port)]

    def environment(self, _folder: Path, _port: int) -> Mapping[str, str]:
        """Without its pauses."""
        return AT_ONCE

    @property
    def is_here(self) -> bool:
        """By its program."""
        return find_program("storescp") is not None


@dataclass(frozen=True, slots=True)
class Orthanc(Receiver):
    """Orthanc without HTTP and plugins.

    Attributes:
        is_tuned: Without its pauses, its syncs and its MD5 sums, and with long PDUs.
    """

    is_tuned: bool = False

    def command(self, folder: Path, port: int) -> list[str | Path]:
        """Its configuration is a file."""
        tuning = {
            "TcpNoDelay": True,
            "SyncStorageArea": False,
            "StoreMD5ForAttachments": False,
            "MaximumPduLength": PDU_BYTES,
        }
        configuration = {
            "DicomPort": port,
            "HttpServerEnabled": False,
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "Plugins": [],
            **(tuning if self.is_tuned else {}),
        }
        file = folder / "orthanc.json"
        file.write_text(json.dumps(configuration), encoding="ascii")
        return [find_program("Orthanc") or "Orthanc", file]

    def environment(self, _folder: Path, _port: int) -> Mapping[str, str]:
        """dcmtk's pauses are Orthanc's."""
        return AT_ONCE if self.is_tuned else {}

    @property
    def is_here(self) -> bool:
        """By its program."""
        return find_program("Orthanc") is not None


@dataclass(frozen=True, slots=True)
class PlainHandler(Receiver):
    """What pynetdicom's documentation shows: ``event.dataset`` saved."""

    def command(self, folder: Path, port: int) -> list[str | Path]:
        """A program of its own."""
        return [sys.executable, "-m", "benchmarks.plain_handler", folder, str(port)]

    def environment(self, _folder: Path, _port: int) -> Mapping[str, str]:
        """It is started in another folder than this one."""
        root = str(Path(__file__).resolve().parents[1])
        return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}


NODE: Final = Node("litegpt")
STORESCP: Final = Storescp("storescp")
TUNED_ORTHANC: Final = Orthanc("orthanc, tuned", is_tuned=True)


def receivers(database_url: str | None = None) -> list[Receiver]:
    """Everybody whom the machine has; with ``database_url`` the node on PostgreSQL, too."""
    everybody: list[Receiver] = [
        NODE,
        Node("litegpt, 2 processes", settings={"listener_processes": "2"}),
        STORESCP,
        Storescp("storescp --fork", options=("--fork",)),
        Orthanc("orthanc, as shipped"),
        TUNED_ORTHANC,
        PlainHandler("pynetdicom, plain"),
    ]
    if database_url:
        everybody.insert(2, Node("litegpt, PostgreSQL", settings={"database_url": database_url}))
    return [receiver for receiver in everybody if receiver.is_here]
