"""The bell: one message that says only that there is work, and no waiting for a broker that is not there."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import ContentDisallowed

from service import queue
from service.errors import OutOfResources
from service.settings import load_settings
from tests.ports import deaf_port, free_port


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
    assert headers["expires"] is None, "a worker whose clock is ahead would hear none"


def test_a_bell_through_redis_reaches_its_queue(redis_url: str) -> None:
    bell = queue.Bell(load_settings(broker_url=redis_url))
    bell.check()
    bell.ring(queue.ANALYSIS)
    bell.ring(queue.DELIVERY)
    bell.close()
    with redis.Redis.from_url(redis_url) as database:
        assert (database.llen(queue.ANALYSIS), database.llen(queue.DELIVERY)) == (1, 1)


@pytest.mark.parametrize("broker", ["files", "redis"])
def test_bells_that_nobody_hears_do_not_pile_up(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    own = {} if broker == "files" else {"broker_url": request.getfixturevalue("redis_url")}
    settings = load_settings(data_dir=tmp_path, **own)
    queue.prepare_broker(settings)
    bell = queue.Bell(settings)
    app = Celery(set_as_current=False)
    app.conf.update(queue.celery_configuration(settings))
    with app.connection_for_read() as connection:
        connection.default_channel.queue_purge(queue.DELIVERY)
        for _ in range(queue.UNHEARD_BELLS + 5):
            bell.ring(queue.DELIVERY)
        assert connection.default_channel._size(queue.DELIVERY) == queue.UNHEARD_BELLS
    bell.close()


def test_a_redis_that_is_away_is_try_again() -> None:
    bell = queue.Bell(load_settings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(OutOfResources, match=r"the broker does not take messages: .*refused"):
        bell.ring(queue.ANALYSIS)
    with pytest.raises(OutOfResources, match="the broker does not answer"):
        bell.check()


def test_a_redis_that_accepts_and_never_answers_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_SOCKET_TIMEOUT_SECONDS", 0.5)
    with deaf_port() as port:
        bell = queue.Bell(load_settings(broker_url=f"redis://127.0.0.1:{port}/0"))
        with pytest.raises(OutOfResources, match=r"[Tt]imeout"):
            bell.ring(queue.ANALYSIS)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux's name")
def test_a_redis_that_was_cut_off_is_noticed(redis_url: str) -> None:
    configuration = queue.celery_configuration(load_settings(broker_url=redis_url))
    with redis.Redis.from_url(redis_url, **configuration["broker_transport_options"]) as client:
        connection = client.connection_pool.get_connection()
        used = connection._sock
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        client.connection_pool.release(connection)


def test_bells_that_were_heard_are_cleared_away(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    queue.prepare_broker(settings)
    heard = tmp_path / "broker" / "processed" / "1_x.analysis.msg"
    heard.touch()
    queue.sweep_broker(settings)
    assert not heard.exists()


@pytest.mark.parametrize("broker", ["files", "redis"])
def test_a_worker_takes_json_and_nothing_else(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A pickled message would run whatever its sender likes: Celery's own consumer must not open it."""
    url = request.getfixturevalue("redis_url") if broker == "redis" else None
    settings = load_settings(data_dir=tmp_path, broker_url=url)
    queue.prepare_broker(settings)
    with Celery("test", set_as_current=False) as app:
        app.conf.update(queue.celery_configuration(settings))
        opened: list[object] = []
        with app.connection() as connection, connection.default_channel as channel:
            app.amqp.queues[queue.DELIVERY](channel).purge()
            app.amqp.Producer(channel).publish(
                {"task": "x"}, routing_key=queue.DELIVERY, exchange="", serializer="pickle"
            )
            consumer = app.amqp.TaskConsumer(channel, queues=[app.amqp.queues[queue.DELIVERY]])
            consumer.register_callback(lambda body, message: opened.append(body))
            with consumer, pytest.raises(ContentDisallowed, match="pickle"):
                while not opened:
                    connection.drain_events(timeout=10)
    assert opened == []


def test_a_worker_holds_no_bell_it_does_not_answer(tmp_path: Path) -> None:
    with Celery("test", set_as_current=False) as app:
        app.conf.update(queue.celery_configuration(load_settings(data_dir=tmp_path)))
        assert app.conf.worker_prefetch_multiplier == 1
        assert app.conf.task_acks_late is False
