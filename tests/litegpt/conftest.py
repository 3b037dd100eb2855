"""What the tests of the model package share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest


@pytest.fixture
def blocked_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No name is resolved and no connection made; the list says what was tried."""
    tried: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        tried.append(str(arguments))
        raise OSError("the network is blocked by a test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the hub client's attempts
    return tried


@pytest.fixture
def no_network(blocked_network: list[str]) -> Iterator[list[str]]:
    """A blocked network that nothing even tries to use."""
    yield blocked_network
    assert blocked_network == []
