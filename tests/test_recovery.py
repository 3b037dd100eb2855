"""Nothing is lost, nothing is doubled: workers killed in mid-analysis, a Redis that forgot everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from litegpt.phantoms import phantom_files
from service.records.overview import StudyView
from tests.node import Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, storescp
from tests.peers.radiographs import as_new_studies, study_uids
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

LEASE_SECONDS = 3
COPIES = 2


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Storescp]:
    with storescp(tmp_path / "pacs", ae_title="PACS") as receiver:
        yield receiver


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return as_new_studies(phantom_files() * COPIES, tmp_path / "images")


def _analysis_worker(node: Node) -> list[psutil.Process]:
    """The processes of the node's analysis worker: Celery's own and the one that holds the model."""
    found = [process for process in node.process.descendants() if "analysis" in process.cmdline()]
    return [process for parent in found for process in (parent, *parent.children(recursive=True))]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def _send(node: Node, files: list[Path]) -> set[str]:
    assert {one.status for one in dcmsend(node.port, *files)} == {0}
    return study_uids(files)


def _one_report_each(pacs: Storescp, studies: set[str]) -> None:
    reports = [report for report in pacs.datasets() if report.Modality == "SR"]
    assert Counter(report.StudyInstanceUID for report in reports) == Counter(studies)
    assert pacs.store_requests() == len(studies)


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_kill_9_in_mid_analysis(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path, pacs: Storescp, files: list[Path]
) -> None:
    settings = {"analysis_lease_seconds": str(LEASE_SECONDS), "destinations": pacs.destination}
    if backend == "postgres":
        settings["database_url"] = request.getfixturevalue("postgres_url")
        settings["broker_url"] = request.getfixturevalue("redis_url")
    with node_up(tmp_path / "node", **settings) as node:
        studies = _send(node, files)
        for _ in range(2):
            wait_until(lambda: _running(node), 60, "analysis under way")
            _kill(_analysis_worker(node))
        views = node.wait_for(studies, "delivered", timeout_seconds=240)
    assert max(view.attempt for view in views) > 1
    _one_report_each(pacs, studies)


def _running(node: Node) -> list[StudyView]:
    return [view for view in node.studies().values() if view.outcome == "running"]


def test_a_flushed_redis_with_studies_waiting(
    tmp_path: Path, pacs: Storescp, files: list[Path], postgres_url: str, redis_url: str
) -> None:
    settings = {"database_url": postgres_url, "broker_url": redis_url, "destinations": pacs.destination}
    with node_up(tmp_path / "node", **settings) as node:
        worker = wait_until(lambda: _analysis_worker(node), 30, "analysis worker")
        for process in worker:
            process.suspend()
        studies = _send(node, files)
        node.wait_for(studies, "queued")
        with redis.Redis.from_url(redis_url) as database:
            database.flushdb()
        # The suspended worker may hold a bell that it has not heard yet: that goes, too.
        _kill(worker)
        node.wait_for(studies, "delivered", timeout_seconds=240)
    _one_report_each(pacs, studies)
