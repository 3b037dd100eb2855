"""Orthanc, OHIF and Chromium for the tests that look at a screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from service.errors import SettingsError
from tests.presence import absent
from worker.demo.ohif import OHIF_VERSION, fetch_ohif
from worker.demo.orthanc import OrthancPACS, OrthancProgram
from worker.demo.viewer import Viewer

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "viewer"
"""Where each test leaves what it saw, for a person to look at."""


@dataclass(frozen=True)
class Screen:
    """A PACS, a viewer of its studies, and a browser.

    Attributes:
        version: OHIF's.
    """

    version: str
    pacs: OrthancPACS
    viewer: Viewer
    browser: Browser

    def show(self, *files: Path) -> None:
        """Puts files into the PACS."""
        for file in files:
            self.pacs.keep(file)

    def picture(self, name: str) -> Path:
        """Where a screenshot goes."""
        return SCREENSHOTS / self.version / f"{name}.png"


@pytest.fixture(scope="module", params=os.environ.get("OHIF", OHIF_VERSION).split())
def screen(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Screen]:
    """With each version of OHIF that the variable names: ``OHIF="3.11.1 3.12.10 3.13.2"``."""
    try:
        program, build = OrthancProgram.find(), fetch_ohif(request.param)
    except SettingsError as error:
        absent(str(error))
    shutil.rmtree(SCREENSHOTS / request.param, ignore_errors=True)
    with (
        OrthancPACS(tmp_path_factory.mktemp("viewer"), program, "LITEGPT") as pacs,
        Viewer(build, pacs.http_port) as viewer,
    ):
        yield Screen(request.param, pacs, viewer, browser)
