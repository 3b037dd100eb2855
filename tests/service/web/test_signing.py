"""Who gets in, for how long, and how others are kept out. Against a real server process."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.errors import SettingsError
from service.passwords import hash_password
from service.records import users
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.states import Role
from service.records.tables import User, WebSession
from service.settings import PREFIX, load_settings
from service.web.admission import require_users
from service.web.attempts import PER_NAME
from service.web.server import serve
from tests.presence import program
from tests.service.web.site import Client, Site, add_user, site

PAGES = [
    *("/", "/studies", "/settings", "/audit", "/audit.csv", "/users", "/users/viewer"),
    *("/actions/retry", "/studies/1.2", "/works/x"),
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server without any user."""
    with site(tmp_path_factory.mktemp("empty"), roles=()) as running:
        yield running


@pytest.mark.parametrize("path", [*PAGES, "/overview/now", "/studies/1.2/images/1.png"])
def test_nothing_is_shown_to_strangers(pages: Site, path: str) -> None:
    answer = pages.client().get(path)
    assert (answer.status, answer.location.partition("?")[0]) == (303, "/sign-in")
    assert answer.body == b""
    refreshed = pages.client().get(path, X_Refresh="1")
    assert (refreshed.status, refreshed.text) == (401, "Sign in first.\n")


def test_after_signing_in_one_is_where_one_wanted_to_be(pages: Site) -> None:
    client = pages.client()
    assert client.sign_in("Viewer", then="/studies?state=failed").location == "/studies?state=failed"
    assert client.get("/studies?state=failed").status == 200


@pytest.mark.parametrize("then", ["//evil.example/", "/\\evil.example", "https://evil.example", "", "/a\nb"])
def test_one_is_not_sent_to_another_site(pages: Site, then: str) -> None:
    assert pages.client().sign_in("viewer", then=then).location == "/"


def test_a_wrong_password_and_an_unknown_name_look_the_same(pages: Site) -> None:
    wrong = pages.client().sign_in("admin", "not the password at all")
    unknown = pages.client().sign_in("nobody", "not the password at all")
    assert wrong.status == unknown.status == 401
    differing = [
        (a, b) for a, b in zip(wrong.text.splitlines(), unknown.text.splitlines(), strict=True) if a != b
    ]
    assert all('name="csrf"' in a for a, _ in differing)
    assert not any("session" in line for line in wrong.set_cookies)


def test_the_cookie_is_out_of_reach_and_the_records_do_not_hold_it(pages: Site) -> None:
    client = pages.client()
    (line,) = [one for one in client.sign_in("viewer").set_cookies if one.startswith("litegpt-session=")]
    attributes = {part.strip().lower() for part in line.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    token = client.cookies["litegpt-session"]
    assert len(token) >= 43  # 256 bits
    with pages.records.reading() as session:
        rows = session.scalars(select(WebSession.token_hash)).all()
        kept = session.scalars(select(User.password_hash)).all()
    assert hashlib.sha256(token.encode()).hexdigest() in rows
    assert token not in (pages.settings.data_dir / "node.sqlite").read_bytes().decode("latin-1")
    assert all(one.startswith("$argon2id$") for one in kept)


def test_a_form_needs_the_token_of_its_own_session(pages: Site) -> None:
    client, other = pages.client("operator"), pages.client("admin")
    for token in ("", "0" * 64, other.csrf()):
        assert client.post("/actions/retry", {"csrf": token, "study": "1.2"}).status == 403
        assert client.post("/sign-out", {"csrf": token}).status == 403
    stranger = pages.client()
    form = {"name": "admin", "password": "correct horse battery", "csrf": other.csrf()}
    assert stranger.post("/sign-in", form).status == 403
    mine = client.csrf()
    assert client.post("/sign-out", {"csrf": mine}, Sec_Fetch_Site="cross-site").status == 403
    assert client.get("/").status == 200


def test_signing_out_ends_the_session_at_the_server(pages: Site) -> None:
    client = pages.client("viewer")
    before = dict(client.cookies)
    assert client.post("/sign-out", {"csrf": client.csrf()}).status == 303
    assert "litegpt-session" not in client.cookies
    client.cookies = before
    assert client.get("/").status == 303


@pytest.mark.parametrize("over", ["idle", "absolute", "inactive", "password", "removed"])
def test_a_session_ends(pages: Site, over: str) -> None:
    name = pages.add_user(f"ends-{over}", Role.VIEWER)
    client = pages.client(name)
    assert client.get("/").status == 200
    with pages.records.writing() as session:
        user = users.get_user(session, name)
        current = session.scalars(select(WebSession).where(WebSession.user_id == user.id)).one()
        if over == "idle":
            current.last_seen_at = utc_now() - timedelta(minutes=30, seconds=1)
        elif over == "absolute":
            current.expires_at = utc_now() - timedelta(seconds=1)
        elif over == "inactive":
            user.active = False
        elif over == "removed":
            users.remove_user(session, name)
    if over == "password":
        file = pages.settings.data_dir / "password"
        file.write_text("another password entirely\n")
        assert _user(pages, "password", name, "--password-file", str(file)) == 0
    assert client.get("/").status == 303
    if over in {"inactive", "password", "removed"}:
        assert pages.client().sign_in(name).status == 401


def _user(pages: Site, *arguments: str) -> int:
    command = [sys.executable, "-m", "service.cli.main", "user", *arguments]
    return subprocess.run([*command, "--data-dir", pages.settings.data_dir], capture_output=True).returncode


def test_a_role_that_is_changed_holds_at_once(pages: Site) -> None:
    name = pages.add_user("promoted", Role.VIEWER)
    client = pages.client(name)
    assert client.get("/audit").status == 403
    assert _user(pages, "role", name, "admin") == 0
    assert client.get("/audit").status == 200


def test_what_a_page_asks_by_itself_keeps_nobody_signed_in(pages: Site) -> None:
    name = pages.add_user("away", Role.VIEWER)
    client = pages.client(name)
    long_ago = utc_now() - timedelta(minutes=10)
    current = select(WebSession).join(User).where(User.name == name)

    def seen() -> timedelta:
        with pages.records.reading() as session:
            return (
                session.scalars(select(WebSession).join(User).where(User.name == name)).one().last_seen_at
                - long_ago
            )

    with pages.records.writing() as session:
        session.scalars(current).one().last_seen_at = long_ago
    assert client.get("/overview/now", X_Refresh="1").status == 200
    assert seen() == timedelta(0)
    assert client.get("/").status == 200
    assert seen() > timedelta(minutes=9)


@pytest.mark.parametrize(
    "path", ["/", "/studies", "/sign-in", "/static/page.js", "/nothing", "/audit", "/api/v1/docs"]
)
def test_every_answer_tells_browsers_what_they_may(pages: Site, path: str) -> None:
    headers = pages.client("viewer").get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    if not path.startswith("/static"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_no_script_or_style_within_and_nothing_from_elsewhere(pages: Site, path: str) -> None:
    text = pages.client("admin").get(path).text
    for forbidden in ("<style", " style=", "javascript:", " onclick", "http://", "https://", "//cdn"):
        assert forbidden not in text
    assert text.count("<script") in (0, 1)


def test_another_name_that_leads_here_is_refused(pages: Site) -> None:
    assert pages.client().get("/sign-in", Host="evil.example").status == 400
    assert pages.client().get("/sign-in", Host=f"localhost:{pages.port}").status == 200


def test_too_many_attempts_are_refused_even_with_the_right_password(pages: Site) -> None:
    name = pages.add_user("guessed", Role.VIEWER)
    for _ in range(PER_NAME):
        assert pages.client().sign_in(name, "not the password at all").status == 401
    # An address of one's own invention changes nothing.
    assert pages.client().sign_in(name, X_Forwarded_For="10.9.8.7").status == 429
    assert pages.client().sign_in("viewer").status == 303


def test_the_log_has_neither_names_nor_passwords_nor_addresses_of_pages(pages: Site) -> None:
    client = pages.client()
    client.sign_in("Verysecret^Patient", "typed into the wrong field")
    pages.client("viewer").get("/studies?study=Verysecret")
    log = pages.process.output()
    assert "failed" in log
    for secret in ("Verysecret", "typed into", "/studies", "correct horse"):
        assert secret not in log


def test_without_users_the_pages_are_read_only_until_there_is_one(empty: Site) -> None:
    client = empty.client()
    assert client.get("/").status == client.get("/studies").status == client.get("/settings").status == 200
    assert client.get("/audit").status == client.get("/actions/retry").status == 403
    assert client.post("/actions/retry", {"csrf": "", "step": "do"}).status == 403
    assert "/actions/" not in client.get("/studies").text
    empty.add_user("first", Role.VIEWER)
    assert client.get("/").status == 303


def test_other_machines_are_not_served_without_https_and_users(empty: Site, tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"web_host": "0.0.0.0"}, "web_behind_proxy"),
        ({"web_host": "::"}, "web_behind_proxy"),
        ({"web_tls_certificate": "certificate.pem"}, "go together"),
    ]
    for wrong, words in refused:
        with pytest.raises(SettingsError, match=words):
            load_settings(**wrong)
    data = {"data_dir": tmp_path / "node"}
    Records.open(load_settings(**data)).close()
    settings = load_settings(**data, web_host="0.0.0.0", web_behind_proxy=True)
    records = Records.open(settings)
    migrate(records.engine)
    for proxied in (settings, load_settings(**data, web_behind_proxy=True)):
        with pytest.raises(SettingsError, match="user add"):
            serve(proxied)
    add_user(records, "first", Role.VIEWER)
    records.close()
    require_users(settings)
    missing = tmp_path / "missing.pem"
    with pytest.raises(SettingsError, match="web_tls_certificate and web_tls_key: No such file"):
        serve(load_settings(**data, web_tls_certificate=missing, web_tls_key=missing))


def test_behind_a_proxy_cookies_are_for_https_and_everybody_signs_in(tmp_path: Path) -> None:
    with site(tmp_path, web_behind_proxy="true", roles=(Role.VIEWER,)) as proxied:
        client = proxied.client()
        assert client.get("/", Host="node.hospital.example").status == 303
        (line,) = [one for one in client.sign_in("viewer").set_cookies if "session" in one]
        assert line.startswith("__Host-litegpt-session=")
        assert {"secure", "httponly"} <= {part.strip().lower() for part in line.split(";")}
        assert client.get("/").status == 200
        for number in range(40):
            answer = proxied.client().sign_in(
                f"n{number}", "x" * 12, X_Forwarded_For=f"10.0.0.{number}, 10.1.1.1"
            )
        assert answer.status == 429
        assert proxied.client().sign_in("viewer", X_Forwarded_For="10.1.1.1, 10.1.1.2").status == 303
        with proxied.records.writing() as session:
            users.remove_user(session, "viewer")
        assert client.get("/").status == 303


def test_https(tmp_path: Path) -> None:
    openssl = program("openssl", package="openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    tls: dict[str, Any] = {"web_tls_certificate": str(certificate), "web_tls_key": str(key)}
    with site(tmp_path, **tls) as secured:
        client = Client(secured.port, ssl.create_default_context(cafile=str(certificate)))
        assert client.sign_in("viewer").status == 303
        answer = client.get("/")
        assert answer.status == 200
        assert "max-age" in answer.headers["strict-transport-security"]
        assert "__Host-litegpt-session" in client.cookies
        command = [sys.executable, "-m", "service.cli.main", "health", "web"]
        environment = {PREFIX + name.upper(): value for name, value in tls.items()}
        environment["LITEGPT_DATA_DIR"] = str(secured.settings.data_dir)
        asked = subprocess.run(command, env={**os.environ, **environment})
        assert asked.returncode == 0


def test_every_hash_has_a_salt_of_its_own() -> None:
    assert hash_password("correct horse battery") != hash_password("correct horse battery")
