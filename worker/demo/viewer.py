"""Serves the demonstration's viewer: OHIF's build and the PACS's DICOMweb at one address of this machine."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_ANSWER_SECONDS: Final = 120.0
_PASSED_ON: Final = ("Accept", "Content-Type", "Content-Length")
_HANDED_BACK: Final = ("Content-Type", "Content-Length")


class Viewer:
    """A web server on a free port, for this machine only, while its ``with`` block lasts."""

    def __init__(self, build: Path, archive_port: int) -> None:
        """Args:
        build: OHIF's build.
        archive_port: Where the PACS answers DICOMweb, on this machine.
        """
        handler = partial(_Handler, directory=str(build), archive_port=archive_port)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Viewer:
        threading.Thread(target=self._server.serve_forever, name="viewer", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Of the list of studies."""
        return f"http://localhost:{self._server.server_address[1]}/"

    def address_of(self, study_instance_uid: str) -> str:
        """Of one study."""
        return f"{self.address}viewer?StudyInstanceUIDs={study_instance_uid}"


class _Handler(SimpleHTTPRequestHandler):
    """OHIF's files; its configuration; what it asks the PACS, asked on its behalf.

    One address for both, since a browser lets a page ask no other address that has not agreed to it, which
    Orthanc does not.
    """

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *arguments: Any, archive_port: int, **more: Any) -> None:
        self._archive_port = archive_port
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        if not self._is_asked_by_this_machine():
            return
        path = urlsplit(self.path).path
        if path == "/dicom-web" or path.startswith("/dicom-web/"):
            self._ask_archive()
        elif path == "/app-config.js":
            self._send_configuration()
        else:
            if not Path(self.translate_path(self.path)).is_file():
                self.path = "/index.html"  # the page itself knows what its addresses mean
            super().do_GET()

    def do_POST(self) -> None:
        if self._is_asked_by_this_machine():
            self._ask_archive()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing: the terminal belongs to the demonstration."""

    def _is_asked_by_this_machine(self) -> bool:
        """Refuses a page elsewhere whose name was made to mean this machine, so that it could read along."""
        if self.headers.get("Host", "").partition(":")[0] in ("localhost", "127.0.0.1"):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _ask_archive(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        headers = {name: value for name in _PASSED_ON if (value := self.headers.get(name))}
        # In its answers the PACS names addresses of its own: they must be ours.
        headers["Host"] = self.headers["Host"]
        connection = http.client.HTTPConnection("127.0.0.1", self._archive_port, timeout=_ANSWER_SECONDS)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name in _HANDED_BACK:
                if value := answer.headers.get(name):
                    self.send_header(name, value)
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # the viewer went to another page, or the PACS is ending
        finally:
            connection.close()

    def _send_configuration(self) -> None:
        body = f"window.config = {json.dumps(_configuration(self.headers['Host']))};".encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _configuration(host: str) -> dict[str, Any]:
    """OHIF's, after its own documentation of ``app-config.js``."""
    root = f"http://{host}/dicom-web"
    archive = {
        "friendlyName": "The demonstration's PACS",
        "qidoRoot": root,
        "wadoRoot": root,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
    }
    return {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        # A report that is opened shows its boxes without asking first.
        "disableConfirmationPrompts": True,
        # Neither do a guided tour or a dialogue stand in the way.
        "investigationalUseDialog": {"option": "never"},
        "customizationService": [{"ohif.tours": {"$set": []}}],
        "defaultDataSourceName": "pacs",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "pacs",
                "configuration": archive,
            }
        ],
    }
