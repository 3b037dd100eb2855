"""docker-compose.yml says what the design says; tests/test_compose.py runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url

from service.settings import PREFIX, Settings
from tests.compose.composition import Composition, UnsetVariable, read_composition
from tests.compose.containers import make_secrets
from tests.worker.conftest import small_node

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
OURS = ["listener", "sweeper", "retriever", "web", "analysis-worker", "delivery-worker"]
ONCE = ["migrate", "purge"]
OTHERS = {"postgres", "redis", "demo-pacs"}
NEEDED = {"LITEGPT_DESTINATIONS": "PACS@pacs:104"}


@pytest.fixture
def composition() -> Composition:
    return read_composition(FILE, NEEDED)


def test_results_must_have_a_destination() -> None:
    with pytest.raises(UnsetVariable, match="LITEGPT_DESTINATIONS"):
        read_composition(FILE, {})


def test_the_example_environment_is_enough_and_names_only_what_the_file_reads() -> None:
    lines = (ROOT / "deploy" / "env.example").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    read_composition(FILE, variables)
    text = FILE.read_text()
    assert [name for name in variables if f"${{{name}:" not in text] == []


def test_parts_are_those_of_the_design(composition: Composition) -> None:
    assert set(composition.services) == {*OURS, *ONCE, *OTHERS}
    assert [name for name, service in composition.services.items() if service.reserves_gpu] == [
        "analysis-worker"
    ]
    images = {name: service.target for name, service in composition.services.items() if name not in OTHERS}
    workers = {"analysis-worker": "worker", "delivery-worker": "worker"}
    assert images == dict.fromkeys(images, "service") | workers


def test_the_demonstration_is_there_when_asked_for_and_only_for_this_machine(
    composition: Composition,
) -> None:
    profiles = {name: service.raw.get("profiles") for name, service in composition.services.items()}
    assert {name: named for name, named in profiles.items() if named} == {
        "demo-pacs": ["demo"],
        "purge": ["purge"],
    }
    (port,) = composition.services["demo-pacs"].raw["ports"]
    assert port.startswith("127.0.0.1:")


def test_stages_of_the_dockerfile_exist(composition: Composition) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for service in composition.services.values():
        assert service.target is None or f" AS {service.target}\n" in dockerfile


def test_everything_waits_for_what_it_needs(composition: Composition) -> None:
    assert composition.services["migrate"].waits_for == {"postgres": "service_healthy"}
    for name in OURS:
        assert composition.services[name].waits_for == {
            "migrate": "service_completed_successfully",
            "redis": "service_healthy",
        }


def test_all_that_runs_on_has_a_health_check_and_starts_again(composition: Composition) -> None:
    for name, service in composition.services.items():
        if name not in ONCE:
            assert service.health, name
            assert service.raw["restart"] == "unless-stopped", name


@pytest.mark.parametrize(
    ("limits", "status", "says"),
    [
        ({}, 2, "how far? --older-than 90d, --until-free 200G, or both"),
        ({"PURGE_OLDER_THAN": "90d"}, 0, "purge: 0 studies"),
        ({"PURGE_UNTIL_FREE": "1K"}, 0, "purge: 0 studies"),
    ],
    ids=["nothing", "age", "room"],
)
def test_the_purge_goes_as_far_as_the_environment_says_and_ends(
    limits: dict[str, str], status: int, says: str, tmp_path: Path
) -> None:
    purge = read_composition(FILE, {**NEEDED, **limits}).services["purge"]
    assert purge.raw["restart"] == "no"
    assert purge.waits_for == {"postgres": "service_healthy"}
    assert purge.volumes["/var/lib/litegpt"] == "archive"
    small_node(tmp_path / "node").records.close()
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli.main", *purge.command[1:]],
        env={**os.environ, "LITEGPT_DATA_DIR": str(tmp_path / "node")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, says in ended.stdout + ended.stderr) == (status, True), ended.stderr


def test_redis_never_drops_a_message_and_survives_a_restart(composition: Composition) -> None:
    command = " ".join(composition.services["redis"].command)
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_every_setting_exists(composition: Composition) -> None:
    for service in composition.services.values():
        named = {name for name in service.environment if name.startswith(PREFIX)}
        assert named <= {PREFIX + name.upper() for name in Settings.model_fields}
        assert {name.removeprefix(PREFIX.lower()) for name in service.secrets} <= {
            *Settings.model_fields,
            "postgres_password",
        }


def test_no_secret_stands_in_the_file(composition: Composition) -> None:
    for service in composition.services.values():
        assert not [key for key in service.environment if key.endswith(("PASSWORD", "DATABASE_URL"))]


def test_volumes_are_declared_and_shared(composition: Composition) -> None:
    archives = {composition.services[name].volumes["/var/lib/litegpt"] for name in OURS}
    assert archives == {"archive"}
    for service in composition.services.values():
        for source in service.volumes.values():
            assert source in composition.volumes or source.startswith("./")


def test_secrets_fit_the_database_that_is_started(tmp_path: Path, composition: Composition) -> None:
    make_secrets(ROOT, tmp_path)
    url = make_url((tmp_path / "litegpt_database_url").read_text())
    database = composition.services["postgres"].environment
    assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert url.host in composition.services
    assert url.password == (tmp_path / "postgres_password").read_text()
    assert database["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"


def test_secrets_are_never_overwritten(tmp_path: Path) -> None:
    make_secrets(ROOT, tmp_path)
    before = (tmp_path / "postgres_password").read_text()
    again = subprocess.run([ROOT / "deploy" / "make-secrets", tmp_path], capture_output=True, text=True)
    assert again.returncode == 1
    assert "already" in again.stderr
    assert (tmp_path / "postgres_password").read_text() == before


def test_cpu_overlay_takes_the_gpu_away_and_nothing_else() -> None:
    class Loader(yaml.SafeLoader):
        """Knows Compose's ``!reset``."""

    Loader.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))
    overlay = yaml.load((ROOT / "deploy" / "cpu.yml").read_text(), Loader)
    devices = {"deploy": {"resources": {"reservations": {"devices": []}}}}
    assert overlay == {"services": {"analysis-worker": devices}}
