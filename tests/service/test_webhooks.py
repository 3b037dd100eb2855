"""Webhooks as they are set up, posted and signed; a receiver as the docs have it checks the signature."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.backup.form import masked
from service.errors import PeerRefused, PeerUnavailable, SettingsError
from service.settings import Settings, load_settings
from service.web.pages.configuration import lines_of
from service.webhooks import posting
from service.webhooks.posting import post
from service.webhooks.webhook import Webhook
from tests.ports import deaf_port, free_port, listens
from tests.processes import running
from tests.service.receivers import SECRET, Receiver, receiver, self_signed

DELIVERIES = Path(__file__).parents[2] / "docs" / "deliveries.md"
TABLE = {"url": "https://alerts.example/T0KEN?key=K3Y", "secret": SECRET}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _webhook(taken: Receiver, **values: object) -> Webhook:
    (webhook,) = load_settings(webhooks={"radiology": taken.table(**values)}).webhooks
    return webhook


def test_they_are_read_from_the_file_a_secret_and_the_environment_and_reach_a_child_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("node.toml").write_text(
        f'[webhooks.a]\nurl = "https://a.example/x"\nsecret = "{SECRET}"\ntell_patient = true\n'
        f'[webhooks.b-2]\nurl = "http://b.example:8080/y"\nsecret = "{SECRET[6:]}"\n'
    )
    from_file = load_settings()
    assert [(one.name, one.tell_patient) for one in from_file.webhooks] == [("a", True), ("b-2", False)]
    assert from_file.webhooks[0].key == from_file.webhooks[1].key == base64.b64decode(SECRET[6:])
    for name, value in from_file.as_environment().items():
        monkeypatch.setenv(name, value)
    Path("node.toml").unlink()
    assert load_settings().webhooks == from_file.webhooks
    monkeypatch.delenv("LITEGPT_WEBHOOKS")
    monkeypatch.setenv("LITEGPT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "litegpt_webhooks").write_text(json.dumps({"c": TABLE}))
    assert [str(one) for one in load_settings().webhooks] == ["c at https://alerts.example"]
    monkeypatch.setenv("LITEGPT_WEBHOOKS", "")
    assert load_settings().webhooks == ()


@pytest.mark.parametrize(
    ("webhooks", "complaint"),
    [
        ("not json S3CRET", 'webhooks: must be a JSON object: {"NAME":'),
        ('["S3CRET"]', 'webhooks: must be a JSON object: {"NAME":'),
        ({"a": "S3CRET"}, "webhooks.0.url: Field required"),
        ({"A b": TABLE}, "a webhook's name has small letters, digits, - and _, not 'A b'"),
        ({"a": {**TABLE, "secret": "S3CRET"}}, "a webhook's secret is base64 of 24 to 64 bytes"),
        ({"a": {**TABLE, "secret": "S3CRET+" * 4}}, "a webhook's secret is base64 of 24 to 64 bytes"),
        ({"a": {**TABLE, "secret": "S3CR" * 5}}, "a webhook's secret is base64 of 24 to 64 bytes"),
        ({"a": {**TABLE, "url": "ftp://S3CRET/"}}, "a webhook's url is written https://HOST/PATH"),
        ({"a": {**TABLE, "url": "https://me:S3CRET@host/"}}, "a webhook's url is written https://HOST/PATH"),
        ({"a": {**TABLE, "url": "https://host:S3CRET/"}}, "a webhook's url is written https://HOST/PATH"),
        ({"a": {**TABLE, "colour": "S3CRET"}}, "unknown setting 'webhooks.0.colour'"),
        ({"a": {**TABLE, "url": "http://host/S3CRET", "tell_patient": True}}, "is told by https alone"),
    ],
)
def test_a_wrong_one_is_one_line_without_what_is_secret(webhooks: object, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(webhooks=webhooks)
    words = str(caught.value)
    assert complaint in words and "S3CR" not in words and "\n" not in words


def test_nothing_that_people_see_has_the_secret_or_the_path(tmp_path: Path) -> None:
    settings = load_settings(webhooks={"radiology": TABLE})
    seen = [
        repr(settings),
        json.dumps(masked(settings)),
        " ".join(line.value for line in lines_of(settings)),
        _command("check", settings).stdout,
    ]
    for text in seen[1:]:
        assert "https://alerts.example" in text and "radiology" in text
        assert "T0KEN" not in text and "K3Y" not in text
    for text in seen:
        assert SECRET[6:] not in text


def _command(name: str, settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("litegpt-node"), name, *arguments],
        env={**os.environ, **settings.as_environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_receiver_as_documented_takes_what_is_genuine_and_new(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", DELIVERIES.read_text(), re.DOTALL)
    (tmp_path / "receiver.py").write_text(script)
    port = free_port()
    environment = {"PORT": str(port), "SECRET": SECRET}
    taken = Receiver((), f"http://127.0.0.1:{port}/")
    with running(
        [sys.executable, tmp_path / "receiver.py"], log=tmp_path / "log", environment=environment
    ) as process:
        process.wait_until(lambda: listens(port), 10, "the receiver listening")
        assert post(_webhook(taken), "msg_1", '{"say":"Größe"}'.encode()) == 204
        process.wait_until(lambda: "Gr\\u00f6\\u00dfe" in process.output(), 10, "the message printed")
        other = base64.b64encode(bytes(range(32))).decode()
        with pytest.raises(PeerRefused, match="answered 401: refused"):
            post(_webhook(taken, secret=other), "msg_2", b"{}")
        settings = load_settings(webhooks={"radiology": taken.table()}, data_dir=tmp_path / "node")
        tried = _command("webhook-test", settings, "radiology", "--json")
        assert (tried.returncode, json.loads(tried.stdout)["status"]) == (0, 204)
        assert '{"type": "test", "demonstration": true}' in process.output()


def test_the_signature_is_that_of_openssl() -> None:
    key = base64.b64decode(SECRET[6:])
    headers = posting.signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    mac = subprocess.run(
        ["openssl", "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}"],
        input=b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}',
        capture_output=True,
        check=True,
    ).stdout
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def test_it_posts_json_to_the_path(tmp_path: Path) -> None:
    with receiver(202) as taken:
        assert post(_webhook(taken), "msg_1", b'{"a":1}') == 202
    assert (taken.bodies, taken.paths) == ([b'{"a":1}'], ["/hook"])
    (headers,) = taken.headers
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "msg_1")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_is_not_wanted_is_refused_for_good(status: int) -> None:
    with receiver(status) as taken, pytest.raises(PeerRefused, match=f"answered {status}: refused"):
        post(_webhook(taken), "msg_1", b"{}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 301, 302, 307, 308])
def test_what_may_be_otherwise_the_next_time_is_tried_again_and_no_redirect_is_followed(status: int) -> None:
    with (
        receiver() as elsewhere,
        receiver(status, location=elsewhere.url) as taken,
        pytest.raises(PeerUnavailable, match=f"answered {status}: "),
    ):
        post(_webhook(taken), "msg_1", b"{}")
    assert len(taken.bodies) == 1 and elsewhere.bodies == []


def test_who_hangs_up_hangs_or_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(0) as taken, pytest.raises(PeerUnavailable, match=r"^http://127.0.0.1:\d+: \S"):
        post(_webhook(taken), "msg_1", b"{}")
    nobody = Receiver((), f"http://127.0.0.1:{free_port()}/hook")
    with pytest.raises(PeerUnavailable, match="refused") as caught:
        post(_webhook(nobody), "msg_1", b"{}")
    assert "/hook" not in str(caught.value)
    monkeypatch.setattr(posting, "ANSWER_SECONDS", 0.5)
    with _hanging() as hanging, pytest.raises(PeerUnavailable, match=r"127.0.0.1:\d+: \S"):
        post(_webhook(hanging), "msg_1", b"{}")


@contextmanager
def _hanging() -> Iterator[Receiver]:
    """A receiver that takes connections and says nothing."""
    with deaf_port() as port:
        yield Receiver((), f"http://127.0.0.1:{port}/")


def test_a_certificate_that_nobody_trusts_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with receiver(certificate=certificate) as taken:
        posting._trust.cache_clear()
        with pytest.raises(PeerUnavailable, match="certificate verify failed"):
            post(_webhook(taken), "msg_1", b"{}")
        assert taken.bodies == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        posting._trust.cache_clear()
        assert post(_webhook(taken, tell_patient=True), "msg_1", b"{}") == 204
        other_name = Receiver((), taken.url.replace("localhost", "127.0.0.1"))
        with pytest.raises(PeerUnavailable, match="certificate verify failed"):
            post(_webhook(other_name), "msg_1", b"{}")
    posting._trust.cache_clear()


def test_the_environment_does_not_send_it_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with receiver() as proxy, receiver() as taken:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password S3CRET\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert post(_webhook(taken), "msg_1", b"{}") == 204
        assert proxy.bodies == []
        assert taken.headers[0]["authorization"] is None


def test_the_command_says_what_came(tmp_path: Path) -> None:
    with receiver(503) as taken:
        settings = load_settings(webhooks={"radiology": taken.table()}, data_dir=tmp_path / "node")
        refused = _command("webhook-test", settings, "radiology")
        unknown = _command("webhook-test", settings, "cardiology")
    assert refused.returncode == 1 and "answered 503: not now" in refused.stdout
    assert unknown.returncode == 2
    assert unknown.stderr.strip() == "litegpt-node: no webhook cardiology is set up; there are: radiology"
