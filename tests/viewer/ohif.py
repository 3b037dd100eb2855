"""OHIF in headless Chromium, driven as a radiologist would, and what it has drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.presence import program

# Debian's Chromium without a GPU: WebGL is computed on the processor.
_OPTIONS: Final = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
_PATIENCE_MILLISECONDS: Final = 120_000
_SERIES: Final = "window.services.displaySetService.getActiveDisplaySets()"

_DRAWN: Final = """() => {
    const engines = window.cornerstone.getRenderingEngines();
    const drawn = [];
    for (const viewport of engines.flatMap(engine => engine.getViewports())) {
        const picture = viewport.element.querySelector('svg.svg-layer');
        const image = viewport.getCurrentImageId && viewport.getCurrentImageId();
        if (!picture || !image) continue;
        const toPixel = (x, y) => window.cornerstone.utilities.worldToImageCoords(
            image, viewport.canvasToWorld([x, y]));
        for (const rect of picture.querySelectorAll('rect')) {
            if (rect.closest('defs')) continue;
            const [x, y, width, height] = ['x', 'y', 'width', 'height'].map(name => +rect.getAttribute(name));
            const screen = rect.getBoundingClientRect();
            drawn.push({
                corners: [...toPixel(x, y), ...toPixel(x + width, y + height)],
                screen: [screen.left, screen.top, screen.right, screen.bottom],
            });
        }
    }
    return drawn;
}"""

_MEASURED: Final = "() => window.services.measurementService.getMeasurements().map(m => m.label)"

_CANVAS: Final = """() => {
    const place = document.querySelector('canvas.cornerstone-canvas').getBoundingClientRect();
    return {x: place.x, y: place.y, width: place.width, height: place.height};
}"""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle on the screen.

    Attributes:
        corners: Left, top, right, bottom in pixels of the image, as OHIF itself translates its screen's.
        screen: The same in pixels of the page.
    """

    corners: tuple[float, float, float, float]
    screen: tuple[float, float, float, float]


class OHIF:
    """One study in a page of its own."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, address: str, *, series: int) -> None:
        """Opens a study and waits until its ``series`` are listed and its image stands there."""
        self._page.goto(address, wait_until="domcontentloaded")
        self._wait(f"() => window.services && {_SERIES}.length >= {series}")
        self._page.wait_for_selector("canvas.cornerstone-canvas", timeout=_PATIENCE_MILLISECONDS)
        self._wait(
            "() => window.cornerstone.getRenderingEngines().some(engine => engine.getViewports()"
            ".some(viewport => viewport.csImage || viewport.getCornerstoneImage?.()))"
        )

    def series(self) -> list[tuple[str, str]]:
        """Modality and description of each series in the list at the left."""
        found: list[list[str]] = self._page.evaluate(
            f"() => {_SERIES}.map(s => [s.Modality, s.SeriesDescription])"
        )
        return [(modality, description) for modality, description in found]

    def open_report(self) -> None:
        """Double-clicks the report, as its reader must."""
        self._page.locator('[data-cy="study-browser-thumbnail-no-image"]').first.dblclick(
            timeout=_PATIENCE_MILLISECONDS
        )

    def rectangles(self, at_least: int = 0) -> list[Rectangle]:
        """What is drawn, once there are so many and no more come."""
        before, deadline = -1, time.monotonic() + _PATIENCE_MILLISECONDS / 1000
        while True:
            found: list[dict[str, Any]] = self._page.evaluate(_DRAWN)
            if len(found) >= at_least and len(found) == before:
                return [Rectangle(tuple(one["corners"]), tuple(one["screen"])) for one in found]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} rectangles are drawn, not {at_least}: {self.complaints}")
            before = len(found)
            self._page.wait_for_timeout(1000)

    def labels(self) -> list[str]:
        """Of the measurements that the report became."""
        found: list[str] = self._page.evaluate(_MEASURED)
        return found

    def text(self) -> str:
        """Everything that is written on the page."""
        return self._page.inner_text("body")

    def screenshot(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._page.screenshot(path=path)
        return path

    def image_on_screen(self, path: Path) -> tuple[Path, tuple[float, float]]:
        """The image alone without anything drawn over it, and where its left upper corner is on the page."""
        self._page.add_style_tag(
            content="svg.svg-layer, [data-cy^=viewport-overlay] { visibility: hidden !important }"
        )
        place = self._page.evaluate(_CANVAS)
        self._page.screenshot(path=path, clip=place)
        return path, (place["x"], place["y"])

    def _wait(self, condition: str) -> None:
        self._page.wait_for_function(condition, timeout=_PATIENCE_MILLISECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium", package="chromium"), args=_OPTIONS
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def ohif(browser: Browser) -> Iterator[OHIF]:
    """A page with nothing in it yet, and nothing remembered of pages before."""
    context = browser.new_context(viewport={"width": 1500, "height": 950})
    try:
        yield OHIF(context.new_page())
    finally:
        context.close()
