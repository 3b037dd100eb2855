"""Celery alone: how fast its workers take empty tasks from Redis, messages that had been sent before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from celery import Celery

_QUEUE: Final = "empty"
_AT_ONCE: Final = 1_000
_WARMED_UP: Final = 20
"""Tasks a process before the clock starts: the processes come one after the other."""
_BROKER: Final = "EMPTY_TASKS_BROKER"

app = Celery("benchmarks.empty_tasks", broker=os.environ.get(_BROKER, "memory://"))
app.conf.task_ignore_result = True
app.conf.task_default_queue = _QUEUE


@app.task(name="empty")  # type: ignore[untyped-decorator]
def empty() -> None:
    """Does nothing."""


def send(broker: str, count: int) -> None:
    """Sends so many messages: one as Celery writes it, and the others like it, each with an id of its own."""
    sender = Celery("sender", broker=broker)
    sender.conf.task_default_queue = _QUEUE
    sender.send_task("empty")
    with redis.Redis.from_url(broker) as client:
        (message,) = client.lrange(_QUEUE, 0, -1)
        first = json.loads(message)["headers"]["id"].encode()
        for start in range(1, count, _AT_ONCE):
            ids = (str(uuid.uuid4()).encode() for _ in range(start, min(start + _AT_ONCE, count)))
            client.lpush(_QUEUE, *(message.replace(first, each) for each in ids))
    sender.close()


def celery_rate(broker: str, consumers: int, count: int, seconds: float) -> tuple[int, float]:
    """How many tasks a worker of so many processes did, and in which time, its start left out."""
    send(broker, count)
    with redis.Redis.from_url(broker) as client, _worker(broker, consumers):
        deadline = time.monotonic() + 120
        while _left(client) > count - _WARMED_UP * consumers:
            if time.monotonic() > deadline:
                raise SystemExit("Celery's worker takes nothing")
            time.sleep(0.01)
        begun, before = time.monotonic(), _left(client)
        while (left := _left(client)) and time.monotonic() - begun < seconds:
            time.sleep(0.02)
        return before - left, time.monotonic() - begun


def _left(client: Any) -> int:
    """Messages that wait, or that the worker has taken and not acknowledged yet."""
    return int(client.llen(_QUEUE)) + int(client.hlen("unacked"))


@contextmanager
def _worker(broker: str, consumers: int) -> Iterator[None]:
    command = [
        *(sys.executable, "-m", "celery", "-A", "benchmarks.empty_tasks", "worker"),
        *("--pool", "prefork", "--concurrency", str(consumers), "--loglevel", "WARNING"),
    ]
    environment = {**os.environ, _BROKER: broker, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
