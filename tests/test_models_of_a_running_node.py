"""Models of a node that is up: activated, rolled back and compared, without a restart and over the wire."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from litegpt.identity import read_identity
from litegpt.phantoms import phantom_files
from service.records.database import Records
from service.records.states import AnalysisState, Purpose
from service.records.tables import Analysis
from service.settings import load_settings
from tests.models import model_copy
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, storescp

pytestmark = pytest.mark.timeout(400)

FIRST = read_identity("phantom").version


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[tuple[Storescp, Storescp]]:
    """The PACS, and the test's destination."""
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        storescp(tmp_path / "test", ae_title="TEST") as test,
    ):
        yield pacs, test


def _send(node: Node, folder: Path) -> str:
    """A new study of one phantom; its UID."""
    image = pydicom.dcmread(phantom_files()[0])
    image.StudyInstanceUID, image.SOPInstanceUID = generate_uid(), generate_uid()
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path = folder / f"{image.SOPInstanceUID}.dcm"
    image.save_as(path)
    (sent,) = dcmsend(node.port, path)
    assert sent.status == 0
    return str(image.StudyInstanceUID)


def _version(report: Dataset) -> str:
    """Algorithm Version (111003) of a report."""
    (version,) = {
        item.TextValue
        for item in _items(report)
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == "111003"
    }
    return str(version)


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def test_activated_rolled_back_and_compared(tmp_path: Path, peers: tuple[Storescp, Storescp]) -> None:
    pacs, test = peers
    folder = model_copy(tmp_path / "second", "2")
    with node_up(tmp_path / "node", destinations=pacs.destination) as node:

        def models(*arguments: str) -> Any:
            return _command(node, "models", *arguments, "--json")

        models("add", str(folder))
        models("activate", "2")
        by_second = _send(node, tmp_path)
        node.wait_for({by_second}, "delivered")
        models("rollback")
        models("shadow", "2", "--to", test.destination)
        by_both = _send(node, tmp_path)
        (view,) = node.wait_for({by_both}, "delivered")
        assert view.model == f"litegpt-phantom {FIRST}"
        node.process.wait_until(lambda: len(test.files()) == 1 and _shadows(node), 120, "the shadow's report")
        compared = _command(node, "compare", "--model", FIRST, "--model", "2", "--json")
        reconciled = _command(node, "reconcile", "--json")
    assert _reports(pacs) == {by_second: ["2"], by_both: [FIRST]}
    assert _reports(test) == {by_both: ["2"]}
    # The same weights under another name say the same.
    assert (compared["studies"], compared["images"], compared["studies_that_differ"]) == (1, 1, [])
    assert compared["labels"] and all(row["only_a"] == row["only_b"] == 0 for row in compared["labels"])
    assert reconciled["studies"]["settled"] == 2
    assert [row["destination"] for row in reconciled["deliveries"]] == [pacs.destination]


def _reports(peer: Storescp) -> dict[str, list[str]]:
    """The models that speak in the reports of each study."""
    by_study: dict[str, list[str]] = {}
    for report in peer.datasets():
        by_study.setdefault(str(report.StudyInstanceUID), []).append(_version(report))
    return by_study


def _shadows(node: Node) -> list[int]:
    """What was read as a shadow."""
    records = Records.open(load_settings(data_dir=node.data_dir))
    done = (Analysis.purpose == Purpose.SHADOW, Analysis.state == AnalysisState.DONE)
    with records.reading() as session:
        ids = list(session.scalars(select(Analysis.id).where(*done)))
    records.close()
    return ids


def _command(node: Node, *arguments: str) -> Any:
    ended = subprocess.run(
        [BIN / "litegpt-node", *arguments, "--data-dir", node.data_dir],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)
