"""Reads docker-compose.yml as Docker Compose does: with variables, into a plain description of services."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_VARIABLE: Final = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<text>[^}]*))?\})")


class UnsetVariable(Exception):
    """A variable that docker-compose.yml requires is not set; the text is what the file says about it."""


@dataclass(frozen=True, slots=True)
class Service:
    """What one service of docker-compose.yml asks for.

    Attributes:
        command: Program and arguments; empty where the image's own is meant.
        environment: As the container sees it.
        volumes: Source (a volume's name or a path) by the path inside the container.
        ports: (published, inside) pairs.
        secrets: Names; each is a file in ``/run/secrets``.
        waits_for: Condition by the name of a service.
        health: The health check's shell words or, as a single string, its shell command.
        target: The stage of the Dockerfile that it is built from, if it is built.
        reserves_gpu: Whether an NVIDIA GPU is reserved for it.
        replicas: How many of it run.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    volumes: Mapping[str, str]
    ports: tuple[tuple[int, int], ...]
    secrets: tuple[str, ...]
    waits_for: Mapping[str, str]
    health: tuple[str, ...] | str | None
    target: str | None
    reserves_gpu: bool
    replicas: int
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Composition:
    """The whole file: services by name, and the file of each secret."""

    services: Mapping[str, Service]
    secrets: Mapping[str, Path]
    volumes: frozenset[str]


def read_composition(path: Path, variables: Mapping[str, str]) -> Composition:
    """Reads the file with these variables, as ``.env`` would give them.

    Raises:
        UnsetVariable: If the file requires a variable that is not among them.
    """
    document = _fill(yaml.safe_load(path.read_text()), variables)
    return Composition(
        services={name: _service(name, body) for name, body in document["services"].items()},
        secrets={name: path.parent / body["file"] for name, body in document["secrets"].items()},
        volumes=frozenset(document["volumes"]),
    )


def _fill(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, variables) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value(match, variables), value)
    return value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    value = variables.get(match["name"], "")
    if value or match["kind"] is None:
        return value
    if match["kind"] == ":?":
        raise UnsetVariable(f"{match['name']}: {match['text']}")
    return match["text"]


def _service(name: str, body: Mapping[str, Any]) -> Service:
    devices = body.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    return Service(
        name=name,
        image=body["image"],
        command=tuple(body.get("command", ())),
        environment={key: str(value) for key, value in body.get("environment", {}).items()},
        volumes=dict(_volume(text) for text in body.get("volumes", ())),
        ports=tuple(_port(text) for text in body.get("ports", ())),
        secrets=tuple(body.get("secrets", ())),
        waits_for={other: wait["condition"] for other, wait in body.get("depends_on", {}).items()},
        health=_health(body.get("healthcheck")),
        target=body.get("build", {}).get("target"),
        reserves_gpu=any("gpu" in device["capabilities"] for device in devices),
        replicas=int(body.get("deploy", {}).get("replicas", 1)),
        raw=body,
    )


def _volume(text: str) -> tuple[str, str]:
    source, inside = text.removesuffix(":ro").rsplit(":", 1)
    return inside, source


def _port(text: str) -> tuple[int, int]:
    *_, published, inside = text.split(":")
    return int(published), int(inside)


def _health(check: Mapping[str, Any] | None) -> tuple[str, ...] | str | None:
    if check is None:
        return None
    kind, *words = check["test"]
    return words[0] if kind == "CMD-SHELL" else tuple(words)
