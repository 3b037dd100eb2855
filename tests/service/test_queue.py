"""The bell: one message that says only that there is work, and no waiting for a broker that is not there."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import redis

from service import queue
from service.errors import OutOfResources
from service.settings import load_settings
from tests.ports import free_port


def test_an_embedded_bell_is_a_file_that_says_only_which_task(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    queue.prepare_broker(settings)
    bell = queue.Bell(settings)
    bell.check()
    bell.ring(queue.ANALYSIS)
    bell.close()
    (message,) = (tmp_path / "broker" / "messages").iterdir()
    headers = json.loads(message.read_text())["headers"]
    assert headers["task"] == "worker.tasks.analyse"
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("()", "{}")
    assert headers["expires"] is not None


def test_a_bell_through_redis_reaches_its_queue(redis_url: str) -> None:
    bell = queue.Bell(load_settings(broker_url=redis_url))
    bell.check()
    bell.ring(queue.ANALYSIS)
    bell.ring(queue.DELIVERY)
    bell.close()
    with redis.Redis.from_url(redis_url) as database:
        assert (database.llen(queue.ANALYSIS), database.llen(queue.DELIVERY)) == (1, 1)


def test_a_redis_that_is_away_is_try_again() -> None:
    bell = queue.Bell(load_settings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(OutOfResources, match=r"the broker does not take messages: .*refused"):
        bell.ring(queue.ANALYSIS)
    with pytest.raises(OutOfResources, match="the broker does not answer"):
        bell.check()


def test_a_redis_that_accepts_and_never_answers_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_SOCKET_TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bell = queue.Bell(load_settings(broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        with pytest.raises(OutOfResources, match=r"[Tt]imeout"):
            bell.ring(queue.ANALYSIS)


def test_bells_that_were_heard_are_cleared_away(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    queue.prepare_broker(settings)
    heard = tmp_path / "broker" / "processed" / "1_x.analysis.msg"
    heard.touch()
    queue.sweep_broker(settings)
    assert not heard.exists()
