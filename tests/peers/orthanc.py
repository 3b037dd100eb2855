"""Orthanc as a peer: a PACS with DICOM and a REST interface."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from tests.ports import free_port
from tests.presence import program
from tests.processes import Process, running


class Orthanc:
    """A running Orthanc."""

    def __init__(self, port: int, http_port: int, ae_title: str, process: Process) -> None:
        self.port = port
        self.http_port = http_port
        self.ae_title = ae_title
        self.process = process

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{self.ae_title}@127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: bytes | None = None) -> Any:
        """One request of its REST interface; JSON answers are parsed.

        Raises:
            urllib.error.HTTPError: If Orthanc refuses it.
        """
        address = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(
            urllib.request.Request(address, data=body, method=method), timeout=60
        ) as answer:
            content = answer.read()
            kind = answer.headers.get_content_type()
        return json.loads(content) if kind == "application/json" else content

    def statistics(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.request("GET", "/statistics")
        return answer

    def upload(self, path: Path) -> str:
        """Puts a file into Orthanc, not over DICOM; returns Orthanc's id of the instance."""
        answer = self.request("POST", "/instances", path.read_bytes())
        return str(answer["ID"])

    def instances(self, level_query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The main tags of the instances that match, e.g. ``{"Modality": "SR"}``."""
        query = {"Level": "Instance", "Expand": True, "Query": dict(level_query or {})}
        answer: list[dict[str, Any]] = self.request("POST", "/tools/find", json.dumps(query).encode())
        return answer

    def file(self, instance: str) -> bytes:
        """The DICOM file of an instance."""
        answer: bytes = self.request("GET", f"/instances/{instance}/file")
        return answer

    def studies(self) -> list[str]:
        """Orthanc's ids of its studies."""
        answer: list[str] = self.request("GET", "/studies")
        return answer

    def add_modality(self, name: str, ae_title: str, port: int) -> None:
        """Enters a node at 127.0.0.1 in the table of modalities."""
        body = {"AET": ae_title, "Host": "127.0.0.1", "Port": port}
        self.request("PUT", f"/modalities/{name}", json.dumps(body).encode())

    def store(self, modality: str, *resources: str) -> dict[str, Any]:
        """C-STOREs studies, series or instances to a modality and waits for the end."""
        body = {"Resources": list(resources), "Synchronous": True}
        answer: dict[str, Any] = self.request(
            "POST", f"/modalities/{modality}/store", json.dumps(body).encode()
        )
        return answer


@contextmanager
def orthanc(folder: Path, *, ae_title: str = "ORTHANC", **configuration: Any) -> Iterator[Orthanc]:
    """Runs an Orthanc with an empty store, without authentication, on ports of its own.

    Args:
        folder: Created; holds the configuration, the store and the log.
        ae_title: Its own title.
        **configuration: More of Orthanc's options.
    """
    port, http_port = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": ae_title,
        "DicomAet": ae_title,
        "DicomPort": port,
        "HttpPort": http_port,
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "TcpNoDelay": True,
        "StableAge": 1,
        "Plugins": [],
        **configuration,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings, indent=2))
    with running(
        [program("Orthanc", package="orthanc"), file],
        log=folder / "orthanc.log",
        environment={"TCP_NODELAY": "1"},
        folder=folder,
    ) as process:
        peer = Orthanc(port, http_port, ae_title, process)
        process.wait_until(lambda: _answers(peer), 60, "Orthanc answering")
        yield peer


def _answers(peer: Orthanc) -> bool:
    try:
        return "CountStudies" in peer.statistics()
    except (URLError, ConnectionError, TimeoutError):
        return False
