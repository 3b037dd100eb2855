"""A worker whose acknowledgement the broker does not hear, hears the next bell."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from service import queue
from service.settings import load_settings
from tests.worker.celery_worker import PARTS, celery_worker

ACKNOWLEDGEMENT = b"ZREM"
"""What kombu acknowledges with: it takes the message out of those that are being worked on."""


class _OneIsLost(socketserver.ThreadingTCPServer):
    """A network before a Redis, on which a connection hangs once it acknowledges something."""

    daemon_threads = True

    def __init__(self, broker: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.broker = broker
        self.is_lost = threading.Event()


class _Connection(socketserver.BaseRequestHandler):
    server: _OneIsLost

    def handle(self) -> None:
        hangs = threading.Event()
        with socket.create_connection(self.server.broker) as broker:
            back = threading.Thread(target=_pass_on, args=(broker, self.request, hangs), daemon=True)
            back.start()
            with suppress(OSError):
                while data := self.request.recv(1 << 16):
                    if ACKNOWLEDGEMENT in data and not self.server.is_lost.is_set():
                        hangs.set()
                        self.server.is_lost.set()
                    if not hangs.is_set():
                        broker.sendall(data)


def _pass_on(broker: socket.socket, client: socket.socket, hangs: threading.Event) -> None:
    with suppress(OSError):
        while (data := broker.recv(1 << 16)) and not hangs.is_set():
            client.sendall(data)
        if not hangs.is_set():
            client.shutdown(socket.SHUT_WR)


@contextmanager
def _network_before(url: str) -> Iterator[tuple[_OneIsLost, str]]:
    """The network, and the broker's address on it."""
    to = urlsplit(url)
    with _OneIsLost((to.hostname or "127.0.0.1", to.port or 6379)) as network:
        threading.Thread(target=network.serve_forever, daemon=True).start()
        before = to._replace(netloc=f"127.0.0.1:{network.server_address[1]}")
        yield network, before.geturl()
        network.shutdown()


@pytest.mark.parametrize(("part", "pool"), PARTS)
def test_the_next_bell_is_heard(redis_url: str, tmp_path: Path, part: str, pool: str) -> None:
    with _network_before(redis_url) as (network, broker_url):
        settings = load_settings(data_dir=tmp_path / "node", broker_url=broker_url)
        bell, broker = queue.Bell(settings), redis.Redis.from_url(redis_url)
        with celery_worker(settings, part, pool, tmp_path) as worker:
            bell.ring(part)
            worker.wait_until(network.is_lost.is_set, 60, "acknowledgement that is lost")
            worker.wait_until(lambda: "Couldn't ack" in worker.output(), 60, "word of it")
            bell.ring(part)
            worker.wait_until(lambda: broker.llen(part) == 0, 20, "next bell heard")
        bell.close()
        broker.close()
