"""Runs the project's own services of a composition as processes, as near to their containers as it goes.

A process gets the service's command, its environment and nothing else of ours, its secrets as files, its
volumes as folders, its ports as free ones, of which the machine knows those that are published. Host names of
services that are other people's programs (postgres, redis) are mapped to servers of this machine. What a
``service`` image does not hold cannot be imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from tests.compose.composition import Composition, Service
from tests.dependencies import blocker
from tests.ports import free_port
from tests.processes import Process, running


@dataclass
class Machine:
    """Where the composition's outside world is on this machine.

    Attributes:
        folder: For volumes, secrets and logs.
        servers: URL on this machine by the name of a service that is replaced.
        ports: The free port that stands for a port inside a container.
    """

    folder: Path
    servers: Mapping[str, str]
    ports: dict[int, int] = field(default_factory=dict)

    def port(self, inside: int) -> int:
        return self.ports.setdefault(inside, free_port())


@dataclass(frozen=True)
class Container:
    """One running replica."""

    service: Service
    process: Process
    environment: Mapping[str, str]

    @property
    def runs(self) -> bool:
        return self.process.popen.poll() is None

    def is_healthy(self) -> bool:
        """Runs the service's health check once."""
        check = self.service.health
        assert check is not None
        command = ["sh", "-c", check] if isinstance(check, str) else list(check)
        ended = subprocess.run(command, env=self.environment, capture_output=True, timeout=60)
        return ended.returncode == 0


def make_secrets(project: Path, folder: Path) -> None:
    """Writes the secrets as an admin would."""
    subprocess.run([project / "deploy" / "make-secrets", folder], check=True, capture_output=True)


def run_to_end(composition: Composition, name: str, machine: Machine) -> subprocess.CompletedProcess[str]:
    """Runs a one-shot service."""
    service = composition.services[name]
    environment = _environment(composition, service, machine, name)
    return subprocess.run(
        service.command, env=environment, cwd=machine.folder, capture_output=True, text=True, timeout=120
    )


@contextmanager
def run_container(
    composition: Composition, name: str, machine: Machine, replica: int = 1
) -> Iterator[Container]:
    """Runs one replica of a service until the block ends, when it is asked to stop as Docker would."""
    service = composition.services[name]
    host = f"{name}-{replica}"
    environment = _environment(composition, service, machine, host)
    # Celery's %h is the container's host name, different in each replica.
    command = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    command += [word.replace("%h", host) for word in service.command]
    with running(command, log=machine.folder / f"{host}.log", folder=machine.folder) as process:
        yield Container(service, process, environment)


@contextmanager
def run_containers(
    composition: Composition, names: list[str], machine: Machine, replicas: Mapping[str, int] | None = None
) -> Iterator[list[Container]]:
    """Runs services, each with its replicas, and waits until all are healthy."""
    with ExitStack() as stack:
        containers = [
            stack.enter_context(run_container(composition, name, machine, replica + 1))
            for name in names
            for replica in range((replicas or {}).get(name, composition.services[name].replicas))
        ]
        for container in containers:
            container.process.wait_until(container.is_healthy, 120, f"healthy {container.service.name}")
        try:
            yield containers
        except BaseException:
            for container in containers:
                print(f"--- {container.service.name}:\n{container.process.output()[-3000:]}")
            raise


def _environment(composition: Composition, service: Service, machine: Machine, host: str) -> dict[str, str]:
    folders = {inside: _folder(machine, source) for inside, source in service.volumes.items()}
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(_folder(machine, f"home-{host}")),
        "HOSTNAME": host,
        "LITEGPT_SECRETS_DIR": str(_secrets(composition, service, machine, host)),
    }
    if service.target == "service":
        environment["PYTHONPATH"] = str(_blocker(machine))
    for name, value in service.environment.items():
        environment[name] = _on_this_machine(value, folders, machine)
        if name.endswith("_PORT"):
            published = int(value) in {inside for _, inside in service.ports}
            environment[name] = str(machine.port(int(value)) if published else free_port())
    return environment


def _folder(machine: Machine, source: str) -> Path:
    folder = machine.folder / "volumes" / re.sub(r"\W+", "-", source).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _secrets(composition: Composition, service: Service, machine: Machine, host: str) -> Path:
    folder = machine.folder / "secrets" / host
    folder.mkdir(parents=True, exist_ok=True)
    for name in service.secrets:
        text = composition.secrets[name].read_text()
        (folder / name).write_text(_on_this_machine(text, {}, machine))
    return folder


def _blocker(machine: Machine) -> Path:
    folder = _folder(machine, "absent-from-service-image")
    (folder / "sitecustomize.py").write_text(blocker())
    return folder


def _on_this_machine(value: str, folders: Mapping[str, Path], machine: Machine) -> str:
    if "://" in value and (host := make_url(value).host) in machine.servers:
        return machine.servers[host]
    for inside, folder in folders.items():
        if value == inside or value.startswith(f"{inside}/"):
            return str(folder) + value.removeprefix(inside)
    return value
