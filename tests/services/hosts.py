"""Machines in a network of their own: namespaces on one switch, any of which can be cut off and healed.

Each has its own network, host name and view of the file system: everything is read-only there but its own
root ``/srv/<name>``, which no other sees, with its temporary folder, and what is mounted into it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.presence import absent, find_program, program

_NETWORK = "10.77.0"
_PACKAGE = "util-linux, iproute2"


@dataclass(frozen=True)
class Host:
    """One machine.

    Attributes:
        name: Its host name.
        address: In the network.
        pid: Of the process that holds its namespaces.
    """

    name: str
    address: str
    pid: int

    @property
    def root(self) -> str:
        """Its own folder, as it sees it."""
        return f"/srv/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """What its programs need to know."""
        return {"TMPDIR": f"{self.root}/tmp", "HOME": self.root}

    def command(self, command: Sequence[str | Path]) -> list[str | Path]:
        """A command, as it has to be said here to run there."""
        return [*self._enter, "-m", f"--wdns={self.root}", *command]

    def in_its_network(self, user: int | None = None) -> list[str | Path]:
        """What stands before a command that runs in its network only, and sees the files that we see."""
        return [*self._enter, *([] if user is None else ["-S", str(user), "-G", str(user)])]

    @property
    def _enter(self) -> list[str | Path]:
        return [program("nsenter", package=_PACKAGE), "-t", str(self.pid), "-n", "-u"]


class Network:
    """A switch and the machines on it."""

    def __init__(self, switch_pid: int) -> None:
        self._switch_pid = switch_pid
        self._in_switch("ip", "link", "add", "switch", "type", "bridge")
        self._in_switch("ip", "link", "set", "switch", "up")

    def join(self, name: str, number: int, pid: int) -> Host:
        """Puts a machine on the switch; its namespaces are held by a process."""
        host = Host(name, f"{_NETWORK}.{number}", pid)
        self._in_switch("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._in_switch("ip", "link", "set", name, "up")
        for line in (
            "link set lo up",
            "link set eth0 up",
            f"addr add {host.address}/24 dev eth0",
        ):
            _run("nsenter", "-t", str(pid), "-n", "ip", *line.split())
        self.heal(host)
        return host

    def cut(self, host: Host) -> None:
        """From now on whatever is sent to or from it is lost, and nobody is told."""
        self._in_switch("ip", "link", "set", host.name, "nomaster")

    def heal(self, host: Host) -> None:
        """It is back."""
        self._in_switch("ip", "link", "set", host.name, "master", "switch")

    def make_impatient(self, host: Host) -> None:
        """Its connections end some 6 s after the other end falls silent, not after a quarter of an hour."""
        retransmissions = "/proc/sys/net/ipv4/tcp_retries2"
        _run("nsenter", "-t", str(host.pid), "-n", "sh", "-c", f"echo 4 > {retransmissions}")

    def _in_switch(self, *command: str) -> None:
        _run("nsenter", "-t", str(self._switch_pid), "-n", *command)


@contextmanager
def network(mounts: Mapping[str, Mapping[str, Path]]) -> Iterator[tuple[Network, dict[str, Host]]]:
    """Machines that are there until the block ends.

    Args:
        mounts: By the machine's name, what is mounted into its root: a name there, and the folder.
    """
    if os.geteuid() != 0:
        absent("network namespaces need root")
    for name in ("unshare", "nsenter", "ip"):
        if not find_program(name):
            absent(f"{name} is not installed (Debian packages {_PACKAGE})")
    with ExitStack() as stack:
        switch = Network(stack.enter_context(_held("-n")))
        hosts = {}
        for number, (name, of_host) in enumerate(mounts.items(), start=1):
            pid = stack.enter_context(_held("-n", "-u", "-m", script=_furnish(name, of_host)))
            hosts[name] = switch.join(name, number, pid)
        yield switch, hosts


def _furnish(name: str, mounts: Mapping[str, Path]) -> str:
    """A shell script that makes a machine of new namespaces."""
    root = f"/srv/{name}"
    lines = [
        "set -e",
        f"hostname {name}",
        "mount -t tmpfs none /srv",
        f"mkdir -p -m 1777 {root} {root}/tmp",
    ]
    for inside, folder in mounts.items():
        lines += [f"mkdir -p {root}/{inside}", f"mount --bind '{folder}' {root}/{inside}"]
    return "\n".join([*lines, "mount -o remount,ro,bind /"])


@contextmanager
def _held(*namespaces: str, script: str = "") -> Iterator[int]:
    """New namespaces, set up by a script and held by a process, whose id is given."""
    command = ["unshare", *namespaces, "sh", "-c", f"{script}\necho ready\nexec sleep infinity"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            absent(f"no namespaces here: {holder.stderr.read().strip()}")
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()}")
