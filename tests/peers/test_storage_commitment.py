"""Orthanc commits to what a node sends it, and tells the node's listener on an association of its own."""

from __future__ import annotations

from pathlib import Path

from service.wire.listener import Listener
from tests.images import make_radiograph
from tests.node import node_up
from tests.peers.dcmtk import storescu
from tests.peers.orthanc import orthanc
from tests.ports import free_port
from tests.waiting import wait_until
from tests.worker.test_delivery import _analysed, _courier
from worker.commitment import Inquirer


def test_a_node_whose_pacs_commits_to_its_results(tmp_path: Path) -> None:
    """And to its images."""
    port = free_port()
    with orthanc(tmp_path / "orthanc") as pacs:
        pacs.add_modality("node", "LITEGPT", port)
        settings = {
            "dicom_port": str(port),
            "destinations": pacs.destination,
            "forward_images_to": pacs.destination,
            "request_commitment_from": pacs.destination,
        }
        image = make_radiograph()
        study = str(image.StudyInstanceUID)
        file = tmp_path / "image.dcm"
        image.save_as(file, enforce_file_format=True)
        with node_up(tmp_path / "node", **settings) as node:
            storescu(port, file)

            def committed() -> bool:
                views = node.studies()
                return study in views and [one.state for one in views[study].deliveries] == ["committed"] * 2

            wait_until(committed, 60, "commitment to the report and the image")
            assert len(pacs.instances()) == 2


def test_what_the_pacs_has_lost_meanwhile_is_sent_again(tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc") as pacs:
        pacs.add_modality("node", "LITEGPT", port)
        asked = {"request_commitment_from": [pacs.destination], "dicom_port": port, "dicom_host": "127.0.0.1"}
        node, (study,) = _analysed(tmp_path / "node", pacs.destination, **asked)
        _courier(node).drain()
        (lost,) = pacs.instances()
        pacs.request("DELETE", f"/instances/{lost['ID']}")
        listener = Listener(node.settings)
        listener.start()
        try:
            Inquirer(node.settings, node.records).drain()
            wait_until(lambda: node.show(study).deliveries[0].state == "due", 30, "report of the loss")
            assert "no such object instance (0112)" in node.show(study).deliveries[0].error
            _courier(node).drain()
            Inquirer(node.settings, node.records).drain()
            wait_until(lambda: node.show(study).deliveries[0].state == "committed", 30, "commitment")
        finally:
            listener.stop()
        (found,) = pacs.instances()
        assert found["MainDicomTags"] == lost["MainDicomTags"]
        node.bell.close()
