"""Free TCP ports, and waiting for someone to listen on one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from random import SystemRandom
from typing import Final

_LOWEST: Final = 20_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TEST_PROCESSES: Final = 16
"""Of one run, at most; each has ports of its own."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on at this moment, and that nobody else gets meanwhile.

    Whoever is to listen on it starts a moment later. Until then a port that the system gives to those who ask
    for any, as each connection does, would be taken by some other test.
    """
    for port in _ports():
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


@cache
def _ports() -> Iterator[int]:
    """Those of this process below the ones that the system gives away, again and again, from anywhere on."""
    systems = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 0
    first_of_system = systems if systems > _LOWEST else 32_768
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _TEST_PROCESSES
    own = range(_LOWEST + number, first_of_system, _TEST_PROCESSES)
    begin = SystemRandom().randrange(len(own))  # another run may be at work on this machine
    return cycle([*own[begin:], *own[:begin]])


def listens(port: int) -> bool:
    """Whether a TCP connection to 127.0.0.1 succeeds."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port of 127.0.0.1 at which connections are accepted, by the kernel, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
