"""What every test gets: real PostgreSQL, Redis and Chromium on request, and none of a person's settings."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.services.fixtures import postgres_server_url, postgres_url, redis_server_url, redis_url
from tests.viewer.ohif import browser

__all__ = ["browser", "postgres_server_url", "postgres_url", "redis_server_url", "redis_url"]


# No test is timed, drawing its examples included: a busy machine is no fault of the code.
settings.register_profile("untimed", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """A person's own ``LITEGPT_…`` settings must not decide how a test ends."""
    for name in list(os.environ):
        if name.startswith("LITEGPT_") and not name.startswith("LITEGPT_TEST_"):
            del os.environ[name]
