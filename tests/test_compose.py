"""docker-compose.yml at work: its services' own commands and environment, run here, deliver every study."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.composition import Composition, read_composition
from tests.compose.containers import Container, Machine, make_secrets, run_containers, run_to_end
from tests.peers.dcmtk import Storescp, dcmsend, storescp
from tests.peers.radiographs import sample_files
from tests.scrape import scrape
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docker-compose.yml"
OURS = ["listener", "sweeper", "retriever", "web", "analysis-worker", "delivery-worker"]


@pytest.fixture
def machine(tmp_path: Path, postgres_url: str, redis_url: str) -> Machine:
    return Machine(tmp_path, {"postgres": postgres_url, "redis": redis_url})


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Storescp]:
    with storescp(tmp_path / "pacs", ae_title="PACS") as receiver:
        yield receiver


@pytest.mark.timeout(600)
def test_every_study_is_delivered_by_the_services_of_the_file(
    tmp_path: Path, machine: Machine, pacs: Storescp
) -> None:
    variables = {
        "LITEGPT_DESTINATIONS": pacs.destination,
        "LITEGPT_CALLING_AE_TITLES": "DCMSEND",
        "LITEGPT_QUIET_SECONDS": "1",
    }
    composition = read_composition(FILE, variables)
    secrets = tmp_path / "made-secrets"
    make_secrets(ROOT, secrets)
    composition = Composition(
        composition.services, {name: secrets / name for name in composition.secrets}, composition.volumes
    )
    migrated = run_to_end(composition, "migrate", machine)
    assert migrated.returncode == 0, migrated.stderr

    with run_containers(composition, OURS, machine, {"analysis-worker": 2}) as containers:
        files = sample_files()
        sent = dcmsend(machine.port(11112), *files)
        assert [one.status for one in sent] == [0] * len(files)
        studies = _wait_until_all_are_delivered(containers)
        reports = pacs.datasets()
        assert _told(containers, "web", "litegpt_studies", state="complete") == len(studies)
        counted = {
            "analysis-worker": ("litegpt_analysis_seconds_count", {"phase": "results"}),
            "delivery-worker": (
                "litegpt_delivery_attempts_total",
                {"destination": pacs.destination, "outcome": "sent"},
            ),
        }
        for name, (metric, labels) in counted.items():
            assert _told(containers, name, metric, **labels) == len(reports), name
        received = _told(containers, "listener", "litegpt_c_store_answers_total", status="0000")
        assert received == len(files)

    assert Counter(report.StudyInstanceUID for report in reports) == Counter(
        study["study_instance_uid"] for study in studies
    )
    assert {report.Modality for report in reports} == {"SR"}
    assert len({container.process.pid for container in containers}) == 7


def _wait_until_all_are_delivered(containers: list[Container]) -> list[dict[str, Any]]:
    studies: list[dict[str, Any]] = []
    listener = containers[0]

    def all_delivered() -> bool:
        assert [container.service.name for container in containers if not container.runs] == []
        studies[:] = _studies(listener)
        return all(study["outcome"] == "delivered" for study in studies)

    try:
        wait_until(all_delivered, 240, "delivery of all studies")
    except TimeoutError as error:
        raise TimeoutError([(study["outcome"], study["error"]) for study in studies]) from error
    return studies


def _told(containers: list[Container], name: str, metric: str, **labels: str) -> float:
    """What the replicas of a service tell of a metric at their own ports, summed up."""
    ports = [
        container.environment["LITEGPT_METRICS_PORT"]
        for container in containers
        if container.service.name == name
    ]
    assert ports
    return sum(scrape(f"http://127.0.0.1:{port}")(metric, **labels) for port in ports)


def _studies(listener: Container) -> list[dict[str, Any]]:
    """What an admin in the listener's container is told."""
    ended = subprocess.run(
        ["litegpt-node", "studies", "--json"], env=listener.environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    studies: list[dict[str, Any]] = json.loads(ended.stdout)
    assert studies
    return studies
