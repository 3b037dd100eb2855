"""Users as an admin manages them on the pages: the same rules as at the command line, and in the audit."""

from __future__ import annotations

import pytest

from service.passwords import is_password
from service.records import tokens, users
from service.records.states import Role
from service.records.tables import User
from tests.service.web.site import PASSWORD, Answer, Client, Site, text_of

OTHER = "another horse battery"


@pytest.fixture(scope="module")
def admin(pages: Site) -> Client:
    """The browser of an admin."""
    return pages.client("admin")


def _post(client: Client, path: str, **form: str) -> Answer:
    return client.post(path, {"csrf": client.csrf(), **form})


def _add(client: Client, name: str, role: str = "viewer", password: str = OTHER) -> Answer:
    return _post(client, "/users", name=name, role=role, password=password, again=password)


def _user(pages: Site, name: str) -> User | None:
    with pages.records.reading() as session:
        return users.find_user(session, name)


def test_a_user_from_beginning_to_end(pages: Site, admin: Client) -> None:
    assert _add(admin, "Bert", "operator").location == "/users"
    said = text_of(admin.get("/users"))
    assert "bert operator" in said
    bert = pages.client()
    assert bert.sign_in("bert", OTHER).status == 303
    assert bert.get("/actions/retry").status == 200

    assert _post(admin, "/users/bert/role", role="viewer").status == 303
    assert bert.get("/actions/retry").status == 403
    assert _post(admin, "/users/bert/password", password=PASSWORD, again=PASSWORD).status == 303
    assert bert.get("/").status == 303
    assert pages.client().sign_in("bert", OTHER).status == 401
    assert bert.sign_in("bert", PASSWORD).status == 303

    assert _post(admin, "/users/bert/remove").status == 422
    assert bert.get("/").status == 200
    assert _post(admin, "/users/bert/remove", sure="1").status == 303
    assert bert.get("/").status == 303
    assert _user(pages, "bert") is None
    rows = admin.get("/audit.csv").text.splitlines()
    deeds = [line for line in reversed(rows) if ",user " in line]
    assert [line.split(",", 3)[1:3] for line in deeds] == [
        ["admin", f"user {deed}"] for deed in ("add", "role", "password", "remove")
    ]
    assert all("bert" in line for line in deeds)
    assert OTHER not in "".join(rows) + pages.process.output()


@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_it_is_for_admins(pages: Site, name: str) -> None:
    client = pages.client(name)
    assert 'href="/users"' not in client.get("/").text
    assert client.get("/users").status == client.get("/users/admin").status == 403
    assert _add(client, "mallory").status == 403
    for deed in ({"role": "admin"}, {"password": OTHER, "again": OTHER}, {"sure": "1"}):
        for path in ("role", "password", "remove"):
            assert _post(client, f"/users/{name}/{path}", **deed).status == 403
    assert _user(pages, "mallory") is None
    user = _user(pages, name)
    assert user is not None and user.role == name
    assert is_password(PASSWORD, user.password_hash)


def test_a_form_of_another_page_changes_nobody(pages: Site, admin: Client) -> None:
    other = pages.client("operator").csrf()
    form = {"name": "mallory", "role": "admin", "password": OTHER, "again": OTHER, "sure": "1"}
    for path in ("/users", "/users/viewer/role", "/users/viewer/password", "/users/viewer/remove"):
        for token in ("", other):
            assert admin.post(path, {**form, "csrf": token}).status == 403
    assert _user(pages, "mallory") is None
    assert _user(pages, "viewer") is not None


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "admin"}, "there is a user admin already"),
        ({"name": " Admin "}, "there is a user admin already"),
        ({"name": "<script>"}, "a user's name has 1 to 64"),
        ({"password": "elevenchars", "again": "elevenchars"}, "12 to 1024 characters"),
        ({"again": "something else here"}, "not the same"),
        ({"role": "root"}, "no such role"),
        ({"role": ""}, "no such role"),
    ],
)
def test_the_rules_are_those_of_the_command_line(
    pages: Site, admin: Client, form: dict[str, str], said: str
) -> None:
    whole = {"name": "carl", "role": "viewer", "password": OTHER, "again": OTHER, **form}
    answer = _post(admin, "/users", **whole)
    assert answer.status == (409 if "already" in said else 422)
    assert said in text_of(answer)
    assert _user(pages, "carl") is None


def test_nobody_shuts_themselves_out(pages: Site, admin: Client) -> None:
    assert "This is yourself" in text_of(admin.get("/users/admin"))
    assert "/users/admin/remove" not in admin.get("/users/admin").text
    for path, form in (("role", {"role": "viewer"}), ("remove", {"sure": "1"})):
        for name in ("admin", "ADMIN", "%20admin"):
            answer = _post(admin, f"/users/{name}/{path}", **form)
            assert (answer.status, "That is yourself" in text_of(answer)) == (403, True)
    user = _user(pages, "admin")
    assert user is not None and user.role == Role.ADMIN
    assert _post(admin, "/users/nobody/remove", sure="1").status == 404


def test_the_clients_of_the_api_are_told_and_their_tokens_are_not(pages: Site, admin: Client) -> None:
    with pages.records.writing() as session:
        token = tokens.add_token(session, "dashboard", Role.VIEWER, 9)
    text = admin.get("/users").text
    assert "dashboard viewer valid" in text_of(admin.get("/users"))
    assert token not in text
