"""One web server for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.web.site import Site, site


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With users named ``viewer``, ``operator`` and ``admin``."""
    with site(tmp_path_factory.mktemp("site")) as running:
        yield running
