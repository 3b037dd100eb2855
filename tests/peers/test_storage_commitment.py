"""Orthanc commits to what a node sends it, and tells the node's listener on an association of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.wire.listener import Listener
from tests.images import make_radiograph
from tests.node import node_up
from tests.peers.dcmtk import storescu
from tests.peers.orthanc import Orthanc, orthanc
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


def test_a_node_commits_to_what_orthanc_sent_it(tmp_path: Path) -> None:
    """Orthanc asks as a modality would, and hears of each object whether the node keeps it."""
    port = free_port()
    with orthanc(tmp_path / "orthanc") as modality:
        modality.add_modality("node", "LITEGPT", port)
        settings = {
            "dicom_port": str(port),
            "commit_for_days": "30",
            "commitment_reports_to": modality.destination,
        }
        uploaded = []
        for number in range(2):
            file = tmp_path / f"{number}.dcm"
            make_radiograph().save_as(file, enforce_file_format=True)
            uploaded.append(modality.upload(file))
        with node_up(tmp_path / "node", **settings):
            modality.store("node", uploaded[0])
            assert _outcome(modality, uploaded[0])["Status"] == "Success"
            both = _outcome(modality, *uploaded)
            assert both["Status"] == "Failure"
            assert [one["SOPInstanceUID"] for one in both["Success"]] == [_uid(modality, uploaded[0])]
            (failed,) = both["Failures"]
            assert (failed["SOPInstanceUID"], failed["FailureReason"]) == (
                _uid(modality, uploaded[1]),
                0x0112,
            )


def _uid(peer: Orthanc, instance: str) -> str:
    return str(peer.request("GET", f"/instances/{instance}")["MainDicomTags"]["SOPInstanceUID"])


def _outcome(peer: Orthanc, *instances: str) -> dict[str, Any]:
    """What Orthanc hears when it asks for these."""
    body = json.dumps({"Resources": instances}).encode()
    path = peer.request("POST", "/modalities/node/storage-commitment", body)["Path"]

    def outcome() -> dict[str, Any] | None:
        told: dict[str, Any] = peer.request("GET", path)
        return None if told["Status"] == "Pending" else told

    return wait_until(outcome, 30, "report") or {}
