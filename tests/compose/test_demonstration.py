"""The demonstration's PACS as docker-compose.yml configures it, run here: images come back read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from litegpt.phantoms import phantom_files
from tests.compose.composition import read_composition
from tests.node import node_up
from tests.peers.orthanc import orthanc
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = {"LITEGPT_DESTINATIONS": "DEMOPACS@demo-pacs:4242=sr+sc"}


def _configuration() -> dict[str, Any]:
    """The service's own, but for its addresses, and its folder where it lies on this machine."""
    service = read_composition(ROOT / "docker-compose.yml", VARIABLES).services["demo-pacs"]
    configuration: dict[str, Any] = json.loads(service.environment["ORTHANC_JSON"])
    folder = ROOT / service.volumes["/demo"]
    scripts = [str(folder / Path(script).relative_to("/demo")) for script in configuration.pop("LuaScripts")]
    assert configuration.pop("DicomModalities") == {"litegpt": ["LITEGPT", "listener", 11112]}
    for address in ("DicomPort", "HttpPort", "RemoteAccessAllowed"):
        del configuration[address]
    return {**configuration, "LuaScripts": scripts}


def test_what_is_uploaded_in_the_browser_comes_back_read(tmp_path: Path) -> None:
    configuration = _configuration()
    ae_title = configuration.pop("DicomAet")
    named, _, wants = VARIABLES["LITEGPT_DESTINATIONS"].partition("@")
    assert named == ae_title
    with (
        orthanc(tmp_path / "pacs", ae_title=ae_title, **configuration) as pacs,
        node_up(tmp_path / "node", destinations=f"{pacs.destination}={wants.rpartition('=')[2]}") as node,
    ):
        pacs.add_modality("litegpt", node.ae_title, node.port)
        pacs.upload(phantom_files()[0])
        wait_until(lambda: len(pacs.instances()) == 3, 120, "a report and a picture beside the image")
        assert {len(pacs.instances({"Modality": kind})) for kind in ("DX", "SR", "OT")} == {1}
        (study,) = node.studies().values()
        assert (study.outcome, len(study.images)) == ("delivered", 1)  # nothing of ours was sent back to us
