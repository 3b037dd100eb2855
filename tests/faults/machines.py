"""A node on several machines, each with a network and a root folder of its own.

    node-a   listener, sweeper, analysis worker, delivery worker
    node-b   listener, sweeper, analysis worker
    node-c   analysis worker, delivery worker
    servers  PostgreSQL, Redis, and the PACS (dcmtk's storescp)
    modality

The archive is one folder, mounted at another place on each machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from service.supervisor import worker_command
from tests.faults.armed import HOLD
from tests.faults.modality import Answered, send_together
from tests.faults.promises import broken_promises
from tests.faults.rig import BROKER, DATABASE, HURRIED, PACS, Part, environment_of, kill_all, stop_all
from tests.faults.steps import ANALYSIS, DELIVERY, LISTENER, STEPS, SWEEPER, Step
from tests.node import BIN
from tests.peers.dcmtk import ENVIRONMENT, Received, storescp_command
from tests.presence import program
from tests.services.hosts import Host, Network, network
from tests.services.postgres import PrivateServer, private_server

NODE_A: Final = "node-a"
NODE_B: Final = "node-b"
NODE_C: Final = "node-c"
SERVERS: Final = "servers"
MODALITY: Final = "modality"

PARTS: Final = {
    NODE_A: (LISTENER, SWEEPER, ANALYSIS, DELIVERY),
    NODE_B: (LISTENER, SWEEPER, ANALYSIS),
    NODE_C: (ANALYSIS, DELIVERY),
}

_ARCHIVE: Final = {NODE_A: "data", NODE_B: "archive/litegpt", NODE_C: "mnt/nas/share"}
"""Where the one folder is mounted, in each machine's root."""

_ORDERS: Final = "orders"
_DICOM_PORT, _REDIS_PORT, _PACS_PORT = 11112, 6379, 104


class Machines:
    """All of them, with what runs there.

    Attributes:
        hosts: By name.
        parts: By host and name, ``node-a/listener``; the servers by name.
        network: Which can cut a host off.
        database: The records' SQLAlchemy URL as it is seen from here.
    """

    def __init__(self, folder: Path, hosts: dict[str, Host], switch: Network, server: PrivateServer) -> None:
        self.folder, self.hosts, self.network = folder, hosts, switch
        self.pacs = Received(folder / "pacs")
        self.database = server.url_of_socket.render_as_string(hide_password=False)
        self._database_there = server.url.render_as_string(hide_password=False)
        self.parts = {part.name: part for part in (*self._servers(server), *self._node())}

    @property
    def archive(self) -> Path:
        """The one folder."""
        return self.folder / "archive"

    def _servers(self, server: PrivateServer) -> Iterator[Part]:
        host, logs = self.hosts[SERVERS], self.folder / "logs"
        there = host.in_its_network()
        database = [*host.in_its_network(server.user), *server.command]
        yield Part(DATABASE, database, server.folder, logs, {}, server.answers, stop_signal=signal.SIGINT)
        socket = self.folder / "redis.sock"
        options = ("--port", str(_REDIS_PORT), "--bind", host.address, "--protected-mode", "no")
        options += ("--unixsocket", str(socket), "--save", "", "--dir", str(self.folder))
        broker = [*there, program("redis-server", package="redis-server"), *options]
        yield Part(BROKER, broker, self.folder, logs, {}, lambda: _pings(socket))
        pacs = [*there, *storescp_command(self.pacs.folder, _PACS_PORT, PACS)]
        yield Part(PACS, pacs, self.folder, logs, ENVIRONMENT, lambda: True)

    def _node(self) -> Iterator[Part]:
        for host_name, names in PARTS.items():
            host = self.hosts[host_name]
            (self.folder / "logs" / host_name).mkdir()
            for name in names:
                armed = [sys.executable, "-m", "tests.faults.armed", f"{host.root}/{_ORDERS}", name]
                command = host.command([*armed, *_COMMANDS[name]])
                environment = environment_of(self._settings(host)) | host.environment
                full_name = f"{host_name}/{name}"
                log = self.folder / "logs" / f"{full_name}-001.log"
                ready = partial(_has_said, log, _READY[name])
                yield Part(full_name, command, self.folder, self.folder / "logs", environment, ready)

    def _settings(self, host: Host) -> dict[str, str]:
        servers = self.hosts[SERVERS].address
        return {
            **HURRIED,
            "data_dir": f"{host.root}/{_ARCHIVE[host.name]}",
            "database_url": self._database_there,
            "broker_url": f"redis://{servers}:{_REDIS_PORT}/0",
            "dicom_host": host.address,
            "dicom_port": str(_DICOM_PORT),
            "destinations": f"{PACS}@{servers}:{_PACS_PORT}",
        }

    def start(self) -> None:
        """Starts everything, on an empty database."""
        for name in (DATABASE, BROKER, PACS):
            self.parts[name].start_and_wait()
        self.run(NODE_A, BIN / "litegpt-node", "migrate")
        of_node = [part for name, part in self.parts.items() if "/" in name]
        for part in of_node:
            part.start()
        for part in of_node:
            part.wait_until_ready()

    def run(self, host_name: str, *command: str | Path) -> str:
        """Runs a command on a machine to its end; what it says is returned."""
        host = self.hosts[host_name]
        environment = {**os.environ, **environment_of(self._settings(host)), **host.environment}
        ended = subprocess.run(
            [str(word) for word in host.command(command)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def send(self, host_name: str, files: Sequence[Path]) -> list[Path]:
        """What the modality sends to a machine's listener and is answered."""
        modality = self.hosts[MODALITY]
        return send_together(
            _DICOM_PORT,
            files,
            host=self.hosts[host_name].address,
            through=modality.in_its_network(),
            options=["-ta", "3", "-td", "3", "-to", "3"],
        )

    def hold_at(self, step: Step, host_names: Sequence[str], which: int = 1) -> None:
        """Has whoever of these machines comes to a step stay there."""
        for name in host_names:
            (self._orders(name) / "armed" / step.slug).write_text(f"0 {which} {HOLD}")

    def held_at(self, step: Step) -> str | None:
        """The machine that stays at a step; from then on no other will."""
        for name in PARTS:
            if (self._orders(name) / "fired" / step.slug).exists():
                for other in PARTS:
                    (self._orders(other) / "armed" / step.slug).unlink(missing_ok=True)
                return name
        return None

    def let_go(self, step: Step, host_name: str) -> None:
        """Has it go on."""
        (self._orders(host_name) / "fired" / step.slug).unlink()

    def _orders(self, host_name: str) -> Path:
        return self.folder / _ORDERS / host_name

    def log(self, host_name: str, part: str) -> str:
        """What a part said."""
        return _text(self.folder / "logs" / f"{host_name}/{part}-001.log")

    def rows(self, query: str) -> list[Any]:
        """What the database says."""
        engine = create_engine(self.database, poolclass=NullPool)
        with engine.connect() as connection:
            return list(connection.execute(text(query)))

    def broken_promises(self, answered: Sequence[Answered]) -> list[str]:
        """Everything that is not as it must be, with what names one machine's own folder."""
        return [
            *broken_promises(self.database, self.archive, self.pacs, answered),
            *self._own_paths(),
        ]

    def _own_paths(self) -> Iterator[str]:
        """Rows and files that name a place which only one machine has."""
        tables = self.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in tables:
            for (row,) in self.rows(f'SELECT to_jsonb(t)::text FROM "{table}" t'):
                if "/srv/" in row:
                    yield f"a row of {table} names a path of one machine: {row}"
        for file in (*self.archive.rglob("*"), *self.pacs.folder.iterdir()):
            if file.is_file() and b"/srv/" in file.read_bytes():
                yield f"{file} names a path of one machine"

    def ended(self) -> list[str]:
        """The parts that run no more."""
        return [
            name
            for name, part in self.parts.items()
            if part.process is None or part.process.popen.poll() is not None
        ]


# A worker's is without Python and its -m: it runs in a process with traps.
_COMMANDS: Final = {
    LISTENER: ["litegpt-node", "listen"],
    SWEEPER: ["litegpt-node", "sweep"],
    ANALYSIS: worker_command("analysis", "prefork", "INFO")[2:],
    DELIVERY: worker_command("delivery", "solo", "INFO")[2:],
}
_READY: Final = {LISTENER: "listening", SWEEPER: "", ANALYSIS: " ready.", DELIVERY: " ready."}

STEP: Final = {step.name: step for step in STEPS}
"""The steps by name."""


@contextmanager
def machines_up(folder: Path) -> Iterator[Machines]:
    """All machines, up until the block ends."""
    orders = [f"{_ORDERS}/{host}/{state}" for host in PARTS for state in ("armed", "fired")]
    for name in ("archive", "pacs", "logs", *orders):
        (folder / name).mkdir(parents=True)
    mounts = {host: {_ARCHIVE[host]: folder / "archive", _ORDERS: folder / _ORDERS / host} for host in PARTS}
    with ExitStack() as stack:
        switch, hosts = stack.enter_context(network({**mounts, SERVERS: {}, MODALITY: {}}))
        server = stack.enter_context(private_server(hosts[SERVERS].address))
        machines = Machines(folder, hosts, switch, server)
        # Killed, since nobody looks how they end, and that takes less time.
        stack.callback(lambda: stop_all(machines.parts.values()))
        stack.callback(lambda: kill_all(machines.parts.values()))
        machines.start()
        yield machines


def _pings(socket: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _has_said(log: Path, words: str) -> bool:
    return words in _text(log)


def _text(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""
