"""Orthanc as the demonstration's PACS: it keeps images and results, and a viewer can ask it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from service.errors import NodeError, SettingsError
from service.peers import Destination, ResultKind
from worker.demo.pacs import ReceivedResult

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0

_PLUGIN: Final = "libOrthancDicomWeb.so"
_PLUGIN_FOLDERS: Final = (
    "/usr/share/orthanc/plugins",
    "/usr/local/share/orthanc/plugins",
    "/usr/lib/orthanc/plugins",
    "/opt/homebrew/lib/orthanc/plugins",
)
_PROGRAM_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
_ANSWER_SECONDS: Final = 30.0


class OrthancRefused(NodeError):
    """Orthanc answered, but not what it was asked for."""


@dataclass(frozen=True, slots=True)
class OrthancProgram:
    """What there must be on this machine: Orthanc, and its DICOMweb plugin."""

    program: Path
    plugin: Path

    @classmethod
    def find(cls) -> OrthancProgram:
        """Looks where distributions put them.

        Raises:
            SettingsError: If one of them is not there.
        """
        program = next(
            (found for place in (None, *_PROGRAM_FOLDERS) if (found := shutil.which("Orthanc", path=place))),
            None,
        )
        if program is None:
            raise SettingsError("Orthanc is not installed (Debian package orthanc)")
        plugin = next((file for place in _PLUGIN_FOLDERS if (file := Path(place, _PLUGIN)).exists()), None)
        if plugin is None:
            raise SettingsError("Orthanc's DICOMweb is not installed (Debian package orthanc-dicomweb)")
        return cls(Path(program), plugin)


@dataclass
class OrthancPACS:
    """An Orthanc with an empty store, for this machine only, while its ``with`` block lasts.

    Attributes:
        folder: Its configuration, its store, its log, and a file for each result that came.
        found: What runs it.
        node: AE title that may send to it, from this machine.
        results: By Study Instance UID.
    """

    folder: Path
    found: OrthancProgram
    node: str
    results: dict[str, list[ReceivedResult]] = field(default_factory=dict)

    def __enter__(self) -> OrthancPACS:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port, self.http_port = _free_ports()
        self._seen = 0
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(), indent=2))
        with (self.folder / "orthanc.log").open("wb") as log:
            # A session of its own: Ctrl-C is for us, who end it when we are done.
            self._process = subprocess.Popen(
                [self.found.program, configuration.name],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def destination(self) -> Destination:
        """How the node reaches it: the report, and the picture for viewers that show no report."""
        return Destination(
            ae_title="DEMOPACS",
            host="127.0.0.1",
            port=self._port,
            results=(ResultKind.STRUCTURED_REPORT, ResultKind.SECONDARY_CAPTURE),
        )

    def keep(self, file: Path) -> None:
        """Puts an image into its store, as the modality would beside sending it to the node.

        What Orthanc does not take is left out: the node says what is wrong with it.
        """
        with suppress(OrthancRefused):
            self._get("/instances", _shown_by_orthanc(file))
        self._seen = self._ask("/changes?last")["Last"]

    def wait_for_change(self, seconds: float) -> None:
        """Returns when another result has come, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._take_up_results() and time.monotonic() < deadline:
            time.sleep(min(0.1, seconds))

    def _take_up_results(self) -> bool:
        """Writes a file for each object that came since the last time; whether one did."""
        answer = self._ask(f"/changes?since={self._seen}&limit=1000")
        came = [change["ID"] for change in answer["Changes"] if change["ChangeType"] == "NewInstance"]
        for instance in came:
            tags = self._ask(f"/instances/{instance}/simplified-tags")
            path = self.folder / f"{tags['SOPInstanceUID']}.dcm"
            path.write_bytes(self._get(f"/instances/{instance}/file"))
            result = ReceivedResult(path, time.monotonic())
            self.results.setdefault(tags["StudyInstanceUID"], []).append(result)
        self._seen = answer["Last"]
        return bool(came)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._ask("/system")
                return
            except NodeError:
                time.sleep(0.1)
        raise NodeError(f"Orthanc did not start; see {self.folder / 'orthanc.log'}")

    def _ask(self, path: str) -> Any:
        return json.loads(self._get(path))

    def _get(self, path: str, body: bytes | None = None) -> bytes:
        try:
            address = f"http://127.0.0.1:{self.http_port}{path}"
            with urllib.request.urlopen(address, body, timeout=_ANSWER_SECONDS) as answer:
                content: bytes = answer.read()
        except HTTPError as error:
            raise OrthancRefused(f"Orthanc refused {path}: {error}") from error
        except OSError as error:
            raise NodeError(
                f"Orthanc does not answer ({error}); see {self.folder / 'orthanc.log'}"
            ) from error
        return content

    def _configuration(self) -> dict[str, Any]:
        return {
            "Name": "LiteGPT demonstration",
            "StorageDirectory": "store",
            "IndexDirectory": "store",
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self._port,
            "DicomAet": "DEMOPACS",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowEcho": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": {self.node: [self.node, "127.0.0.1", 104]},
            "OverwriteInstances": True,
            "TcpNoDelay": True,
            "Plugins": [str(self.found.plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }


def _shown_by_orthanc(file: Path) -> bytes:
    """The file; a deflated one inflated, of which Orthanc 1.10 gives its viewers no picture."""
    if read_file_meta_info(file).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return file.read_bytes()
    dataset, inflated = dcmread(file), BytesIO()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(inflated, enforce_file_format=True)
    return inflated.getvalue()


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody uses now; Orthanc cannot choose them itself."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
