"""The contract as a list that a person reads: made from the OpenAPI, without any script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an operation is given, or what an object holds.

    Attributes:
        name: Its name.
        where: ``path``, ``query`` or ``body``.
        kind: Which values it has, in words.
        required: Whether it must be given.
        description: What it means.
    """

    name: str
    where: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the API's operations."""

    group: str
    method: str
    path: str
    description: str
    parameters: tuple[Parameter, ...]
    answers: tuple[tuple[str, str], ...]


def groups_of(contract: Mapping[str, Any]) -> list[tuple[str, list[Operation]]]:
    """All of them by group, in the order of the contract."""
    operations = [
        Operation(
            group=(of_method.get("tags") or [""])[0],
            method=method.upper(),
            path=path,
            description=of_method.get("description") or of_method.get("summary", ""),
            parameters=tuple(_parameters(contract, of_method)),
            answers=tuple((status, told["description"]) for status, told in of_method["responses"].items()),
        )
        for path, of_path in contract["paths"].items()
        for method, of_method in of_path.items()
    ]
    return [(group, list(some)) for group, some in groupby(operations, attrgetter("group"))]


def _parameters(contract: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[Parameter]:
    for one in operation.get("parameters", []):
        schema = one["schema"]
        words = one.get("description") or schema.get("description", "")
        yield Parameter(one["name"], one["in"], _kind(contract, schema), one.get("required", False), words)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        body = _resolved(contract, content["schema"])
        for name, schema in body["properties"].items():
            required = name in body.get("required", [])
            yield Parameter(name, "body", _kind(contract, schema), required, schema.get("description", ""))


def _kind(contract: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Which values a schema means, in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(contract, one) for one in schema["anyOf"])
    schema = _resolved(contract, schema)
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema.get("type") == "array":
        return f"a list of {_kind(contract, schema['items'])}"
    if schema.get("type") == "object":
        return f"an object ({', '.join(schema['properties'])})"
    return str(schema.get("format") or schema.get("type", "anything"))


def _resolved(contract: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or the one that it refers to."""
    found: Mapping[str, Any] = contract
    if "$ref" not in schema:
        return schema
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found
