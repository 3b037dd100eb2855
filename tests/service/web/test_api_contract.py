"""The API keeps to its OpenAPI whatever it is asked (schemathesis), against a real server process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.specs.openapi.checks import ignored_auth

from service.peers import Destination
from service.records.states import Role
from service.settings import load_settings
from service.web.app import create_app
from tests.service.web.api_site import ApiSite, api_site, contract_of

EXAMPLES: Final = int(os.environ.get("LITEGPT_TEST_API_EXAMPLES", "0"))
"""For each operation, in a deeper round: other ones each time. Without it a few, always the same."""

CONTRACT: Final = schemathesis.openapi.from_dict(contract_of(create_app(load_settings())))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[ApiSite]:
    """On PostgreSQL, which takes less for a number or a text than SQLite does."""
    with api_site(tmp_path_factory.mktemp("api"), database_url=postgres_url) as running:
        yield running


NOBODY: Final = "NOBODY@127.0.0.1:1"


def _differ(body: dict[str, Any]) -> bool:
    """Whether days and hours of an order are in order, as far as they are any."""
    first, last = (body.get(name) for name in ("since", "until"))
    in_order = not (isinstance(first, str) and isinstance(last, str)) or first <= last
    window = body.get("daily_window")
    return in_order and not (isinstance(window, str) and window[:5] == window[6:])


def _is_address(source: object) -> bool:
    try:
        return isinstance(source, str) and bool(Destination.parse(source))
    except ValueError:
        return False


@CONTRACT.parametrize()
@settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_the_contract(case: schemathesis.Case, api: ApiSite) -> None:
    """Only no wrong tokens: so many of them would close the API, and another test sends those."""
    # No schema of parameters can say that one needs another, or that two differ.
    assume("score" not in (case.query or {}) or "label" in case.query)
    if isinstance(case.body, dict):
        assume(_differ(case.body))
        if _is_address(case.body.get("source")):
            case.body["source"] = NOBODY  # and no machine that a name happens to lead to
    case.call_and_validate(
        base_url=api.url, headers=api.bearer(Role.ADMIN), excluded_checks=[ignored_auth], timeout=30
    )
