"""Results are made in a process beside the worker: what ends it costs one analysis, and only for now."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread

from tests.images import make_radiograph
from tests.peers.dicom3tools import dciodvfy
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node
from worker.analysis import Analyst
from worker.making import Making
from worker.results.making import MadeResult, make_results

BAD_AE_TITLE = "CRASHES"


def crash_on_bad(*arguments: Any) -> list[MadeResult]:
    """As a decoder that does not survive an image that is to be drawn."""
    if arguments[3].ae_title == BAD_AE_TITLE:
        os.abort()
    return make_results(*arguments)


def _node(folder: Path, **settings: object) -> SmallNode:
    return small_node(folder, decoding_processes=1, destinations=["PACS@127.0.0.1:1=sr+sc"], **settings)


def _analyse(node: SmallNode) -> None:
    Analyst(node.settings, node.records, node.archive, node.bell).drain()


def test_what_is_made_there_is_written_here(tmp_path: Path) -> None:
    node, image = _node(tmp_path / "node"), make_radiograph()
    node.take(image)
    _analyse(node)
    files = list((node.archive.root / "results").rglob("*.dcm"))
    assert all(dciodvfy(file) == [] for file in files)
    results = [dcmread(file) for file in files]
    assert sorted(result.Modality for result in results) == ["OT", "SR"]
    assert {result.StudyInstanceUID for result in results} == {image.StudyInstanceUID}
    assert list(node.archive.incoming.iterdir()) == []


def test_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    node = _node(tmp_path / "node")
    making = Making(node.settings, node.archive)
    before = set(psutil.Process().children())
    making.get_ready()
    (process,) = set(psutil.Process().children()) - before
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    making.get_ready()
    (replaced,) = set(psutil.Process().children()) - before
    assert replaced.pid != process.pid
    del making
    wait_until(lambda: not replaced.is_running(), 10, "end of the process that nobody needs")


def test_an_analysis_that_ends_the_process_fails_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.making.make_results", crash_on_bad)
    node, image = _node(tmp_path / "node", ae_title=BAD_AE_TITLE, maximum_attempts=1), make_radiograph()
    node.take(image)
    _analyse(node)
    view = node.show(image.StudyInstanceUID)
    assert view.outcome == "failed"
    assert "ended its process: SIGABRT" in view.error
