"""A database from which nothing comes any more: who waits for it is told, and what we had locked is free."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from tests.faults.rig import environment_of
from tests.processes import running
from tests.services.hosts import network
from tests.services.postgres import private_server
from tests.waiting import wait_until

_LONG_SECONDS: Final = 30.0
"""Ten times as long as the node waits here; by itself TCP goes on trying for a quarter of an hour."""

_NODE: Final = """
import sys, threading, time
from pathlib import Path
from sqlalchemy import text
from service.errors import OutOfResources
from service.records import database, waits
from service.settings import load_settings

waits.SILENCE_SECONDS = 3
records = database.Records.open(load_settings())

def hold_a_lock():
    with records.writing() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(1)"))
        print("locked", flush=True)
        while not Path(sys.argv[1]).exists():
            time.sleep(0.05)
        session.execute(text("SELECT 1"))

def wait_for_an_answer():
    with records.reading() as session:
        session.execute(text("SELECT pg_sleep(600)"))

def told(work):
    try:
        work()
    except OutOfResources as error:
        print("told:", work.__name__, error, flush=True)

for work in (hold_a_lock, wait_for_an_answer):
    threading.Thread(target=told, args=(work,)).start()
"""

_SESSIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
_LOCKS: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def test_both_sides_end_a_silence(tmp_path: Path) -> None:
    with (
        network({"node": {}, "servers": {}}) as (switch, hosts),
        private_server(hosts["servers"].address) as own,
    ):
        server = [*hosts["servers"].in_its_network(own.user), *own.command]
        part = [*hosts["node"].in_its_network(), sys.executable, "-c", _NODE, tmp_path / "ask"]
        environment = environment_of({"database_url": own.url.render_as_string(hide_password=False)})
        with running(
            server, log=tmp_path / "server.log", folder=own.folder, stop_signal=signal.SIGINT
        ) as database:
            database.wait_until(own.answers, 60, "PostgreSQL")
            with running(part, log=tmp_path / "part.log", folder=tmp_path, environment=environment) as node:
                there = own.url_of_socket
                node.wait_until(lambda: "locked" in node.output(), 60, "lock")
                node.wait_until(lambda: _one(there, _SESSIONS) == 2, 60, "question")
                switch.cut(hosts["node"])
                (tmp_path / "ask").touch()
                wait_until(lambda: _one(there, _LOCKS) == 0, _LONG_SECONDS, "lock that is free")
                wait_until(lambda: node.output().count("told:") == 2, _LONG_SECONDS, "two who are told")


def _one(url: URL, query: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return int(connection.execute(text(query)).scalar_one())
