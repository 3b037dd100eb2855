"""The test services themselves: a schema and a database of one's own, private servers where none run."""

from __future__ import annotations

import psycopg
import redis
import sqlalchemy
from sqlalchemy import URL

from tests.services import postgres as postgres_service
from tests.services import redis as redis_service


def test_a_schema_is_empty_and_gone_afterwards(postgres_server_url: URL) -> None:
    with postgres_service.postgres_schema(postgres_server_url) as url:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE study (uid text)"))
        inspector = sqlalchemy.inspect(engine)
        assert inspector.get_table_names() == ["study"]
        schema = inspector.default_schema_name
        engine.dispose()
    with psycopg.connect(
        postgres_server_url.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as after:
        found = after.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
    assert found == (0,)


def test_two_redis_databases_do_not_see_each_other(redis_server_url: str) -> None:
    with (
        redis_service.redis_database(redis_server_url) as one,
        redis_service.redis_database(redis_server_url) as other,
        redis.Redis.from_url(one) as first,
        redis.Redis.from_url(other) as second,
    ):
        first.set("study", "1")
        assert second.dbsize() == 0


def test_private_postgres_starts_and_stops() -> None:
    with postgres_service.started_server() as url:
        assert postgres_service._answers(url)
    assert not postgres_service._answers(url)


def test_private_redis_starts_and_stops() -> None:
    with redis_service._private_server() as url:
        assert redis_service._answers(url)
    assert not redis_service._answers(url)
