"""A PostgreSQL server, and a schema in it that nobody else uses."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from tests.ports import free_port
from tests.presence import absent, find_program
from tests.processes import running

VARIABLE = "LITEGPT_TEST_DATABASE_URL"
DEFAULT = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


@contextmanager
def postgres_server() -> Iterator[URL]:
    """The server that ``LITEGPT_TEST_DATABASE_URL`` names, else this machine's, else one for this run."""
    named = os.environ.get(VARIABLE)
    if named:
        yield make_url(named)
    elif _answers(make_url(DEFAULT)):
        yield make_url(DEFAULT)
    else:
        with started_server() as url:
            yield url


@contextmanager
def postgres_schema(server: URL) -> Iterator[str]:
    """URL of the server with an empty schema as its search path; the schema is dropped afterwards."""
    schema = f"litegpt_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(_libpq(server), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        try:
            url = server.update_query_dict({"options": f"-csearch_path={schema}"})
            yield url.render_as_string(hide_password=False)
        finally:
            _end_sessions_in(connection, schema)
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


def _end_sessions_in(connection: psycopg.Connection, schema: str) -> None:
    """A session that still holds a lock in the schema would make dropping it wait for ever."""
    connection.execute(
        """
        SELECT DISTINCT pg_terminate_backend(locks.pid)
        FROM pg_locks AS locks
        JOIN pg_class ON pg_class.oid = locks.relation
        JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
        WHERE nspname = %s AND locks.pid <> pg_backend_pid()
        """,
        [schema],
    )


def _answers(url: URL) -> bool:
    try:
        psycopg.connect(_libpq(url), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """A PostgreSQL of the caller's own, not running yet: it may be started, killed and started again.

    Attributes:
        url: Where it will answer.
        command: What starts it.
        folder: Its working directory.
        user: Whom to run it as; ``None`` is ourselves.
    """

    url: URL
    command: Sequence[str | Path]
    folder: Path
    user: int | None

    @property
    def url_of_socket(self) -> URL:
        """Where it answers on its own machine, whatever its network is."""
        where = {"host": str(self.folder), "port": str(self.url.port)}
        return self.url.set(host=None, port=None, query=where)

    def answers(self) -> bool:
        """Whether it takes connections."""
        return _answers(self.url_of_socket)


@contextmanager
def private_server(address: str = "127.0.0.1") -> Iterator[PrivateServer]:
    """A new server in a folder of its own, which is removed afterwards.

    Args:
        address: Where it is to answer; all of its network may connect. A socket in the folder does, too.
    """
    initdb, postgres = find_program("initdb"), find_program("postgres")
    if not initdb or not postgres:
        absent(
            f"no PostgreSQL: {VARIABLE} is not set, none answers on port 5432, and none is installed to start"
        )
    folder = Path(tempfile.mkdtemp(prefix="litegpt-postgres-"))
    try:
        user = _unprivileged_user()
        if user is not None:
            os.chown(folder, user, user)
        data = folder / "data"
        subprocess.run(
            [initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        with (data / "pg_hba.conf").open("a", encoding="ascii") as who_may_connect:
            who_may_connect.write(f"host all all {address}/24 trust\n")
        port = free_port()
        command = [postgres, "-D", data, "-p", str(port), "-h", address, "-k", folder]
        yield PrivateServer(make_url(DEFAULT).set(host=address, port=port), command, folder, user)
    finally:
        shutil.rmtree(folder)


@contextmanager
def started_server() -> Iterator[URL]:
    """A new server that runs until the block ends."""
    with private_server() as own:
        log = own.folder.with_suffix(".log")
        # SIGINT is PostgreSQL's "fast shutdown": it does not wait for clients to leave.
        with running(
            own.command, log=log, folder=own.folder, user=own.user, stop_signal=signal.SIGINT
        ) as server:
            server.wait_until(own.answers, 30, "PostgreSQL server")
            yield own.url
        log.unlink()


def _unprivileged_user() -> int | None:
    """Numeric user to run the server as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    absent("PostgreSQL refuses to run as root, and this machine has neither user postgres nor nobody")
