"""The fixtures ``postgres_url`` and ``redis_url``: empty, a module's own, gone after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from tests.services.postgres import postgres_schema, postgres_server
from tests.services.redis import redis_database, redis_server


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[URL]:
    """A PostgreSQL server for the whole run."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """A Redis server for the whole run, without a database number."""
    with redis_server() as url:
        yield url


@pytest.fixture(scope="module")
def postgres_url(postgres_server_url: URL) -> Iterator[str]:
    """SQLAlchemy URL of PostgreSQL with an empty schema that is this module's own."""
    with postgres_schema(postgres_server_url) as url:
        yield url


@pytest.fixture(scope="module")
def redis_url(redis_server_url: str) -> Iterator[str]:
    """Broker URL of Redis with an empty database that is this module's own."""
    with redis_database(redis_server_url) as url:
        yield url
