"""A node that speaks TLS alone, set up as docs/security.md says, with a PACS that wants certificates, too."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from service.checks import examine
from service.cli import health
from service.settings import load_settings
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import storescp
from tests.ports import free_port
from tests.presence import program

SECURITY = Path(__file__).resolve().parents[1] / "docs" / "security.md"

NAMES = {
    "node": ("/CN=litegpt", "DNS:litegpt.hospital.example,IP:192.168.1.10"),
    "pacs": ("/CN=pacs", "IP:127.0.0.1"),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the document's commands make: an authority, and a certificate for each of two."""
    program("openssl", package="openssl")
    folder = tmp_path_factory.mktemp("certificates")
    shown = re.findall(r"```sh\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    authority, for_node = (block for block in shown if "openssl" in block)
    _run(authority, folder)
    for name, (subject, hosts) in NAMES.items():
        of_name = for_node.replace("node.", f"{name}.")
        for was, becomes in zip(NAMES["node"], (subject, hosts), strict=True):
            assert was in of_name
            of_name = of_name.replace(was, becomes)
        _run(of_name, folder)
    return folder


def _run(commands: str, folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-e", "-c", commands], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_node_by_tls_alone_takes_reads_and_delivers(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-test is its modality: it knows the node by the node's own certificate."""
    authority = certificates / "authority.pem"
    settings = {
        "dicom_port": "",
        "dicom_tls_port": str(free_port()),
        "dicom_host": "127.0.0.1",
        "dicom_tls_certificate": str(certificates / "node.pem"),
        "dicom_tls_key": str(certificates / "node.key"),
        "dicom_tls_client_authorities": str(authority),
        "dicom_tls_authorities": str(authority),
    }
    pacs_tls = ["+tls", str(certificates / "pacs.key"), str(certificates / "pacs.pem"), "+cf", str(authority)]
    with storescp(tmp_path / "pacs", ae_title="PACS", options=pacs_tls) as pacs:
        settings["destinations"] = f"dicoms://{pacs.destination}"
        with node_up(tmp_path / "node", **settings) as node:
            said = _selftest(node, settings)
            assert f"sent to dicoms://LITEGPT@127.0.0.1:{node.port}" in said
            assert f"dicoms://{pacs.destination}" in said
            assert len(pacs.files()) == 1
            as_loaded = load_settings(data_dir=node.data_dir, web_port="", **settings)
            checked = {line.name: line for line in examine(as_loaded)}
            monkeypatch.setattr(health, "settings_of_process", lambda _: as_loaded)
            health.health(health.Part.LISTENER)
    assert [line for line in checked.values() if line.complaint] == []
    assert [line.name for line in checked.values() if line.warns] == ["callers"]
    assert checked["DICOM TLS"].fact.endswith("callers need one, too")
    assert checked[f"dicoms://{pacs.destination}"].fact == "answers C-ECHO"


def _selftest(node: Node, settings: dict[str, str]) -> str:
    environment = {f"LITEGPT_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(
        [BIN / "litegpt-node", "selftest", "--data-dir", node.data_dir],
        env={**os.environ, **environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
