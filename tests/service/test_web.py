"""The web server's process: whom it answers, within which bounds, and that it is never in the node's way."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import SettingsError
from service.heartbeat import beat, beat_file
from service.records.database import Records
from service.records.migrate import migrate
from service.settings import load_settings
from service.sweeper import PART
from service.web.bounds import Bounds
from service.web.kept import Kept
from service.web.readiness import LIMIT_SECONDS
from tests.node import BIN, node_up
from tests.ports import deaf_port, free_port, listens
from tests.processes import Process, running
from tests.scrape import ask, ask_json, web_url
from tests.waiting import wait_until

STOPS_WITHIN_SECONDS = 5


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A node's folder as its other parts have left it: records, archive, a sweeper's beat."""
    folder = tmp_path / "data"
    records = Records.open(load_settings(data_dir=folder))
    migrate(records.engine)
    records.close()
    (folder / "incoming").mkdir()
    _beat(folder)
    return folder


def _beat(folder: Path) -> None:
    beat(folder, PART)


@contextmanager
def _web(data_dir: Path, **settings: str) -> Iterator[Process]:
    chosen = {"web_port": "0", "minimum_free_bytes": "0", **settings}
    environment = {f"LITEGPT_{name.upper()}": value for name, value in chosen.items()}
    command: list[str | Path] = [BIN / "litegpt-node", "web", "--data-dir", data_dir]
    with running(
        command,
        log=data_dir.parent / "web.log",
        environment=environment,
        folder=data_dir.parent,
        stop_timeout_seconds=STOPS_WITHIN_SECONDS,
    ) as process:
        process.wait_until(lambda: "pages at" in process.output(), 30, "pages")
        yield process


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "pacs.hospital.example", ""])
def test_pages_for_other_machines_need_tls_or_a_proxy(host: str) -> None:
    with pytest.raises(SettingsError, match="web_host: pages that other machines reach"):
        load_settings(web_host=host)


def test_hosts_of_this_machine_and_ports_that_are_off() -> None:
    assert [load_settings(web_host=host).web_host for host in ("127.0.0.5", "::1", "localhost")]
    settings = load_settings(web_port="", metrics_port="")
    assert (settings.web_port, settings.metrics_port) == (None, None)
    assert load_settings().metrics_port is None


def test_a_node_in_order_is_ready_and_tells_why_only_to_this_machine(data_dir: Path) -> None:
    with _web(data_dir, metrics_port="0"):
        pages, metrics = web_url(data_dir), web_url(data_dir, "metrics")
        assert ask_json(f"{pages}/health/live") == (200, {"live": True})
        status, told = ask_json(f"{pages}/health/ready")
        assert (status, told.pop("ready")) == (200, True), told
        assert set(told) == {"database", "broker", "archive", "sweeper", "model"}
        assert told["database"] == {"ok": True, "says": "sqlite"}
        status, told = ask_json(f"{metrics}/health/ready")
        assert (status, told["database"]) == (200, {"ok": True})
        assert str(data_dir) not in str(told)
        assert ask(f"{metrics}/metrics")[0] == 200
        assert ask(f"{pages}/metrics")[0] == 200
        assert ask(f"{pages}/openapi.json")[0] == 404


def test_another_name_for_this_machine_is_not_answered(data_dir: Path) -> None:
    with _web(data_dir):
        assert ask(f"{web_url(data_dir)}/health/live", host="evil.example")[0] == 400
        assert ask(f"{web_url(data_dir)}/health/live", host="localhost:8043")[0] == 200


@pytest.mark.parametrize("begun", [b"", b"GET /health/live HTTP/1.1\r\nHost: loc"])
def test_who_connects_and_does_not_ask_is_hung_up_on(data_dir: Path, begun: bytes) -> None:
    with _web(data_dir):
        port = int(web_url(data_dir).rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
            silent.sendall(begun)
            assert silent.recv(100) == b""


def test_each_dependency_that_is_not_in_order_is_named(data_dir: Path) -> None:
    with _web(data_dir) as process:
        url = f"{web_url(data_dir)}/health/ready"
        assert ask_json(url)[0] == 200
        beat_file(data_dir, PART).write_text(f"{time.time() - 31}\n")
        (data_dir / "incoming").rmdir()
        (data_dir / "node.sqlite").rename(data_dir / "away.sqlite")
        answer = wait_until(lambda: _not_ready(url), 60, "look at what is missing")
        assert answer is not None
        status, told = answer
        assert status == 503
        complaints = {name: one["says"] for name, one in told.items() if name != "ready" and not one["ok"]}
        assert set(complaints) == {"database", "archive", "sweeper"}
        assert complaints["sweeper"] == "no sweeper has been round lately"
        assert complaints["archive"] == f"the archive {data_dir} is not there"
        (data_dir / "away.sqlite").rename(data_dir / "node.sqlite")
        (data_dir / "incoming").mkdir()

        def ready() -> bool:
            _beat(data_dir)
            return ask_json(url)[0] == 200

        process.wait_until(ready, 60, "readiness again")


def _not_ready(url: str) -> tuple[int, dict[str, dict[str, object]]] | None:
    status, told = ask_json(url)
    return (status, told) if not any(told[name]["ok"] for name in ("archive", "database")) else None


def test_a_full_disk_is_not_ready(data_dir: Path) -> None:
    with _web(data_dir, minimum_free_bytes=str(10**18)):
        status, told = ask_json(f"{web_url(data_dir)}/health/ready")
        assert (status, told["archive"]["ok"]) == (503, False)
        assert "minimum_free_bytes" in told["archive"]["says"]


def test_a_broker_that_hangs_hangs_neither_readiness_nor_the_end(data_dir: Path) -> None:
    with deaf_port() as port, _web(data_dir, broker_url=f"redis://127.0.0.1:{port}/0") as process:
        url = web_url(data_dir)
        for _ in range(3):
            start = time.monotonic()
            status, told = ask_json(f"{url}/health/ready")
            assert time.monotonic() - start < LIMIT_SECONDS + 2
            assert status == 503
            assert [name for name, one in told.items() if name != "ready" and not one["ok"]] == ["broker"]
        assert ask(f"{url}/health/live")[0] == 200
        # Stopping while a request waits: `_web` does not give it more than its few seconds.
        waiting = threading.Thread(target=lambda: _quietly(f"{url}/health/ready"))
        waiting.start()
        assert process.stop(timeout_seconds=STOPS_WITHIN_SECONDS) == 0
        waiting.join()


def _quietly(url: str) -> None:
    with suppress(OSError):
        ask(url)


def test_a_taken_port_is_waited_for_in_one_line_and_the_node_goes_on(tmp_path: Path) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    with holder:
        checked = _node("check", "--data-dir", str(tmp_path / "data"), LITEGPT_WEB_PORT=str(port))
        assert checked.returncode == 1
        (line,) = [line for line in checked.stdout.splitlines() if line.startswith("no ")]
        assert f"port {port} on 127.0.0.1, for the pages: Address already in use" in line
    holder = socket.create_server(("127.0.0.1", port))
    with holder, node_up(tmp_path, web_port=str(port)) as node:
        told = f"port {port} on 127.0.0.1, for the pages: Address already in use"
        node.process.wait_until(lambda: told in node.process.output(), 30, "line on the port")
        assert listens(node.port)
        holder.close()
        node.process.wait_until(lambda: f"http://127.0.0.1:{port}/" in _of_web(node.process), 30, "pages")
        assert ask(f"http://127.0.0.1:{port}/health/live")[0] == 200
        assert node.process.output().count(told) == 1
        checked = _node("check", "--data-dir", str(node.data_dir), LITEGPT_WEB_PORT=str(port))
        assert f"http://127.0.0.1:{port}/, up" in checked.stdout
    assert not listens(port)


def _of_web(process: Process) -> str:
    return "\n".join(line for line in process.output().splitlines() if "service.web.server" in line)


def test_alone_it_ends_where_its_port_is_taken_or_there_is_none(data_dir: Path) -> None:
    with deaf_port() as port:
        ended = _node("web", "--data-dir", str(data_dir), LITEGPT_WEB_PORT=str(port))
        assert (ended.returncode, ended.stderr) == (
            2,
            f"litegpt-node: port {port} on 127.0.0.1, for the pages: Address already in use\n",
        )
    ended = _node("web", "--data-dir", str(data_dir), LITEGPT_WEB_PORT="")
    assert ended.returncode == 2
    assert "nothing to serve" in ended.stderr


def test_health_tells_whether_the_web_server_answers(data_dir: Path) -> None:
    asked = {"LITEGPT_DATA_DIR": str(data_dir), "LITEGPT_WEB_PORT": str(free_port())}
    ended = _node("health", "web", **asked)
    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    with _web(data_dir, web_port=asked["LITEGPT_WEB_PORT"]):
        assert _node("health", "web", **asked).returncode == 0


def _node(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, "LITEGPT_DICOM_PORT": "0", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def _through_bounds(
    application: ASGIApp, *bodies: bytes, headers: dict[str, str] | None = None
) -> list[Message]:
    """What is sent back when a request with these pieces of a body goes through the bounds."""
    sent: list[Message] = []
    pieces = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    pieces.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": encoded}
    bounds = Bounds(application, body_bytes=10, answer_seconds=0.1)
    asyncio.run(bounds(scope, receive, send))
    return sent


async def _reads_it_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


async def _never_answers(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def _goes_on_for_long(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(0.3)
    await send({"type": "http.response.body", "body": b"long"})


@pytest.mark.parametrize(("size", "status"), [(5, 200), (6, 413)])
def test_a_body_without_a_stated_length_is_counted(size: int, status: int) -> None:
    assert _through_bounds(_reads_it_all, b"12345", b"x" * size)[0]["status"] == status


@pytest.mark.parametrize(("length", "status"), [("10", 200), ("11", 413), ("-1", 413), ("ten", 413)])
def test_a_stated_length_is_believed_where_it_is_too_large(length: str, status: int) -> None:
    assert _through_bounds(_reads_it_all, headers={"content-length": length})[0]["status"] == status


def test_an_answer_must_begin_in_time_and_may_then_go_on() -> None:
    assert _through_bounds(_never_answers)[0]["status"] == 503
    assert _through_bounds(_goes_on_for_long)[-1]["body"] == b"long"


def test_what_hangs_has_one_thread_and_its_last_answer_stays() -> None:
    go = threading.Event()
    asked: list[int] = []

    def slow() -> int:
        asked.append(1)
        if len(asked) > 1:
            go.wait(30)
        return len(asked)

    kept = Kept("slow", slow, fresh_seconds=0.0)
    kept.begin()
    assert kept.is_answered_by(time.monotonic() + 10)
    assert kept.last == 1
    for _ in range(5):
        wait_until(lambda: _asked_again(kept, asked), 10, "second question")
        assert not kept.is_answered_by(time.monotonic())
        assert kept.last == 1
    assert len(asked) == 2
    go.set()
    assert kept.is_answered_by(time.monotonic() + 10)
    assert kept.last == 2


def _asked_again(kept: Kept[int], asked: list[int]) -> bool:
    kept.begin()
    return len(asked) == 2


def test_a_page_waits_a_moment_for_what_is_quick_and_never_for_what_is_slow() -> None:
    go = threading.Event()

    def slow() -> int:
        go.wait(30)
        return 1

    kept = Kept("slow", slow, fresh_seconds=0.0)
    begun = time.monotonic()
    assert kept.within(0.2) is None
    assert 0.2 <= time.monotonic() - begun < 5
    # It goes on for longer than that already: not waited for again.
    begun = time.monotonic()
    assert [kept.within(0.2) for _ in range(20)] == [None] * 20
    assert time.monotonic() - begun < 0.2 * 20 / 2
    assert kept.overdue_seconds >= 0.2
    go.set()
    assert kept.is_answered_by(time.monotonic() + 10)
    assert (kept.last, kept.overdue_seconds) == (1, 0.0)
    # It took long the last time: what it said then is there at once.
    go.clear()
    begun = time.monotonic()
    assert kept.within(0.2) == 1
    assert time.monotonic() - begun < 0.2
    go.set()
    assert Kept("quick", lambda: 7, fresh_seconds=60.0).within(10.0) == 7


def test_an_answer_that_says_when_it_was_given_survives_an_error() -> None:
    answers = iter([5])
    kept = Kept("ends", lambda: next(answers), fresh_seconds=0.0, survives_errors=True)
    for _ in range(3):
        kept.begin()
        assert kept.is_answered_by(time.monotonic() + 10)
        assert kept.last == 5


def test_what_takes_long_is_asked_for_less_often_where_that_is_wanted() -> None:
    asked: list[int] = []

    def slow() -> int:
        asked.append(1)
        time.sleep(0.05)
        return len(asked)

    kept = Kept("slow", slow, fresh_seconds=0.0, most_of_time=0.0001)
    for _ in range(3):
        kept.begin()
        assert kept.is_answered_by(time.monotonic() + 10)
    assert asked == [1]


def test_a_fresh_answer_is_not_asked_for_again_and_an_error_is_none() -> None:
    asked: list[int] = []

    def fails() -> int:
        asked.append(1)
        raise ValueError("broken")

    kept = Kept("failing", fails, fresh_seconds=60.0)
    for _ in range(3):
        kept.begin()
        assert kept.is_answered_by(time.monotonic() + 10)
    assert asked == [1]
    assert kept.last is None
