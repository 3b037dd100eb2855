"""A Redis server, and a numbered database in it that nobody else uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.ports import free_port
from tests.presence import absent, find_program
from tests.processes import running

VARIABLE = "LITEGPT_TEST_BROKER_URL"
DEFAULT = "redis://127.0.0.1:6379"

_LEASE_SECONDS = 2 * 60 * 60
_NUMBERS = range(1, 16)


@contextmanager
def redis_server() -> Iterator[str]:
    """The server that ``LITEGPT_TEST_BROKER_URL`` names, else this machine's, else one for this run."""
    named = os.environ.get(VARIABLE)
    if named:
        yield named.rstrip("/")
    elif _answers(DEFAULT):
        yield DEFAULT
    else:
        with _private_server() as url:
            yield url


@contextmanager
def redis_database(server: str) -> Iterator[str]:
    """URL of an empty database of the server, leased from database 0 and emptied afterwards."""
    with redis.Redis.from_url(server) as leases:
        number = next((number for number in _NUMBERS if _lease(leases, server, number)), None)
        if number is None:
            absent(f"all databases of {server} hold something")
        url = _database(server, number)
        try:
            yield url
        finally:
            with redis.Redis.from_url(url) as database:
                database.flushdb()
            leases.delete(_lease_key(number))


def _lease(leases: redis.Redis, server: str, number: int) -> bool:
    if not leases.set(_lease_key(number), os.getpid(), nx=True, ex=_LEASE_SECONDS):
        return False
    with redis.Redis.from_url(_database(server, number)) as database:
        if database.dbsize() == 0:
            return True
    leases.delete(_lease_key(number))
    return False


def _lease_key(number: int) -> str:
    return f"litegpt-test-lease-{number}"


def _database(server: str, number: int) -> str:
    return f"{server}/{number}"


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def _private_server() -> Iterator[str]:
    program = find_program("redis-server")
    if not program:
        absent(f"no Redis: {VARIABLE} is not set, none answers on port 6379, and none is installed to start")
    folder = Path(tempfile.mkdtemp(prefix="litegpt-redis-"))
    try:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        url = f"redis://127.0.0.1:{port}"
        with running(command, log=folder / "log", folder=folder) as server:
            server.wait_until(lambda: _answers(url), 30, "Redis server")
            yield url
    finally:
        shutil.rmtree(folder)
