"""Whatever stands in the address or the form of a page, the node has an answer. Against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.records.selection import STATES
from service.web.filters import Filters
from tests.images import make_radiograph
from tests.service.web.site import Client, Site, finding

PLAIN: Final = st.text(max_size=20)
MEANT: Final = st.sampled_from(
    [
        *STATES,
        *(
            "Edema",
            "0.5",
            "1e400",
            "nan",
            "2026-01-31",
            "0001-01-01",
            "9999-12-31",
            "1.2",
            "PACS@127.0.0.1:104",
        ),
        *(
            "20260131T120000.000000-1",
            "00010101T000000.000000-0",
            "-1",
            str(2**31),
            str(2**63),
            "%",
            "'",
            "\x00",
        ),
    ]
)
NAMES: Final = [*(one.name for one in fields(Filters)), "after", "before", "next", "priority", "to", "again"]
QUERIES: Final = st.lists(st.tuples(st.sampled_from(NAMES), MEANT | PLAIN), max_size=5)
QUICK: Final = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def admin(pages: Site) -> Iterator[Client]:
    """The browser of an admin; the node has a study that was read, and one that waits."""
    pages.read(pages.take(make_radiograph(AccessionNumber="A")), finding("Edema", (1, 2, 3, 4)))
    pages.take(make_radiograph())
    yield pages.client("admin")


@QUICK
@given(
    path=st.sampled_from(["/", "/studies", "/audit", "/users", "/actions/rerun", "/sign-in", "/settings"]),
    query=QUERIES,
)
@example(path="/studies", query=[("since", "0001-01-01"), ("until", "9999-12-31")])
@example(path="/studies", query=[("after", "20260131T120000.000000-99999999999999999999")])
def test_any_query(admin: Client, path: str, query: list[tuple[str, str]]) -> None:
    assert admin.get(f"{path}?{urlencode(query)}").status in {200, 404, 422}


@QUICK
@given(parts=st.lists(MEANT | PLAIN, min_size=1, max_size=4))
def test_any_path(admin: Client, parts: list[str]) -> None:
    path = "/".join(quote(part, safe="") for part in parts)
    for begin in ("", "studies/", "users/", "works/", "actions/", "static/", "api/v1/"):
        assert admin.get(f"/{begin}{path}").status < 500


@QUICK
@given(
    path=st.sampled_from(
        ["/actions/rerun", "/actions/retry", "/actions/resend", "/actions/cancel", "/users"]
    ),
    form=st.lists(
        st.tuples(st.sampled_from([*NAMES, "role", "name", "password"]), MEANT | PLAIN), max_size=5
    ),
)
def test_any_form(admin: Client, path: str, form: list[tuple[str, str]]) -> None:
    """Of a page of ours, so that it is read; an action is a rehearsal."""
    body = f"csrf={_token(admin)}&{urlencode(form)}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = admin._ask("POST", path, body, headers)
    assert answer.status in {303, 422} or (answer.status == 409 and "going on" in answer.text), answer.text


def _token(client: Client) -> str:
    if not hasattr(client, "token"):
        client.token = client.csrf()  # type: ignore[attr-defined]
    return str(client.token)  # type: ignore[attr-defined]
