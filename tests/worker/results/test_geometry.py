"""Geometry that cannot be wrong silently: a known rectangle, followed from an image's pixels into results.

A DICOM file goes into a node and is analysed as any other; only the network is replaced, by one that finds
the rectangle in the very tensors that the model would get (``seeing``). What the results say is read by
dcmtk, and compared with where the rectangle was drawn in the stored matrix, as SCOORD and GSPS count pixels.

Images are upright and lying, of both polarities, in every orientation, with and without a black border. The
product squashes the whole image, crops nothing, adds no margins and turns nothing: Patient Orientation goes
along, and the stored pixels and what is drawn over them are turned by the viewer together. The tests do not
rely on that: a crop, a letterbox or a turn that is not undone moves the rectangle in the tensors.

The model's answer is in whole steps of a grid of 100, so a side is up to half a step off: 0.5 % of the width
or height, 12.8 pixels of 2560. That is the grid's own error; all the rest together stays below half a pixel
of the original. A picture has whole pixels only: there the line lies on the pixels that hold the box's sides,
at most half a pixel from its middle, and exactly along sides that are edges of pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings

from litegpt.boxes import Box
from litegpt.engine import Engine, Read
from litegpt.findings import Finding, Reading
from litegpt.squares import SquashedImage
from service.records.claims import ClaimedImage
from tests.worker.conftest import SmallNode, small_node
from tests.worker.results.results_read import Told, bright_of, extent, shown
from tests.worker.results.scenes import BRIGHT, KINDS, STRIP, Scene, Sides, scenes
from tests.worker.results.seeing import LABEL, seeing
from worker.analysis import Analyst

FEW = settings(deadline=None, max_examples=3)
_SIDES = {"L": ("7771000", "SCT"), "R": ("24028007", "SCT")}


of_every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=[f"{turned or 'unsaid'} {shown}".replace("\\", "/") for turned, shown in KINDS]
)


class Exact:
    """An engine that loads images as the real one does, and answers with a box in pixels."""

    square_sizes = (16,)

    def __init__(self, sides: tuple[int, int, int, int]) -> None:
        self._reading = Reading((Finding(LABEL, 0.9, Box(*sides)),))

    def read_ahead(
        self, images: Sequence[ClaimedImage], load: Callable[[ClaimedImage], SquashedImage]
    ) -> Iterator[Read[ClaimedImage]]:
        for image in images:
            load(image)
            yield Read(image, self._reading)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallNode]:
    folder = tmp_path_factory.mktemp("geometry") / "node"
    small = small_node(folder, destinations=["PACS@127.0.0.1:1=sr+gsps+sc"])
    yield small
    small.records.close()
    small.bell.close()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("phantom", device="cpu", calibrated=False)


@pytest.fixture(scope="module")
def measured(record_testsuite_property: Callable[[str, object], None]) -> Iterator[dict[str, list[float]]]:
    """Errors by what they are; the largest and the median are written beside the results (``--junitxml``)."""
    found: dict[str, list[float]] = defaultdict(list)
    yield found
    for what, each in found.items():
        record_testsuite_property(f"{what}: largest", round(max(each), 3))
        record_testsuite_property(f"{what}: median", round(median(each), 3))


def told(scene: Scene, node: SmallNode, engine: Engine | Exact) -> Told:
    """What the results of a scene tell, which the node analyses as it does every study."""
    image = scene.image()
    node.take(image)
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: engine
    analyst.drain()
    view = node.show(image.StudyInstanceUID)
    assert view.analysis_state == "done", view.error
    results = Told.by({each.sop_class: node.archive.absolute(each.path) for each in view.deliveries})
    assert_displayed_alike(scene, results)
    return results


def assert_displayed_alike(scene: Scene, results: Told) -> None:
    """What the boxes are drawn over: the stored matrix, whole, in its own orientation and polarity."""
    assert results.displayed == (scene.columns, scene.rows)
    assert results.picture.shape == (scene.rows, scene.columns, 3)
    assert results.orientation == scene.orientation
    left, top, right, bottom = extent(bright_of(results.picture))
    assert scene.sides[0] <= left < right <= scene.sides[2]
    assert scene.sides[1] <= top < bottom <= scene.sides[3]


def assert_drawn_over(sides: Sides, results: Told, rows: int) -> None:
    """The Secondary Capture's line lies on the pixels that hold these sides."""
    middles = [edge + half for edge, half in zip(results.sc, (0.5, 0.5, -0.5, -0.5), strict=True)]
    seen = 4 if sides[3] < rows - STRIP else 3  # the strip at the lower edge may be over the last
    for middle, side in list(zip(middles, sides, strict=True))[:seen]:
        assert abs(middle - side) <= 0.5 + 1e-4  # SCOORD has single precision


def errors(scene: Scene, sides: Sides) -> list[float]:
    """Of each side, in pixels."""
    return [abs(side - known) for side, known in zip(sides, scene.sides, strict=True)]


def side_of_patient(scene: Scene) -> tuple[str, str] | None:
    """The patient's side that has the whole rectangle, by where its corners are from the image's middle."""
    left, top, right, bottom = scene.sides
    places = set()
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
        for direction, offset in zip(
            scene.orientation.split("\\"), (2 * x - scene.columns, 2 * y - scene.rows), strict=False
        ):
            if direction in ("L", "R"):
                places.add(offset if direction == "L" else -offset)
    if not places or min(places) < 0 < max(places):
        return None
    return _SIDES["L" if max(places) > 0 else "R"]


@of_every_kind
def test_a_box_in_pixels_is_told_exactly(kind: tuple[str, str], node: SmallNode, tmp_path: Path) -> None:
    """Also that dcmtk displays the rectangle where it is meant to be, and on which side of the patient."""

    @FEW
    @given(scene=scenes(kind))
    def follow(scene: Scene) -> None:
        scene.image().save_as(tmp_path / "image.dcm", enforce_file_format=True)
        bright = shown(tmp_path / "image.dcm", "+Wi", "1") > BRIGHT - 2
        assert extent(bright) == scene.sides
        results = told(scene, node, Exact(scene.sides))
        assert max(errors(scene, results.sr) + errors(scene, results.gsps)) == 0
        assert results.sc[:3] == scene.sides[:3]
        assert results.sc[3] == scene.sides[3] or scene.sides[3] > scene.rows - STRIP
        assert results.side == side_of_patient(scene)

    follow()


@of_every_kind
def test_what_the_model_sees_is_told_to_half_a_pixel(
    kind: tuple[str, str], node: SmallNode, engine: Engine, measured: dict[str, list[float]]
) -> None:
    """Without the grid: answers as fine as they can be measured in the model's own input."""

    @FEW
    @given(scene=scenes(kind))
    def follow(scene: Scene) -> None:
        results = told(scene, node, seeing(engine, steps=False))
        for sides in (results.sr, results.gsps):
            measured["error without the grid, in pixels"] += errors(scene, sides)
            assert max(errors(scene, sides)) < 0.5, (sides, scene)
        assert_drawn_over(results.sr, results, scene.rows)

    follow()


@of_every_kind
def test_what_the_model_answers_is_told_to_half_a_step_of_its_grid(
    kind: tuple[str, str], node: SmallNode, engine: Engine, measured: dict[str, list[float]]
) -> None:
    """The answer is a text in whole steps, written and read as a model's: beyond the grid, half a pixel."""

    @FEW
    @given(scene=scenes(kind))
    def follow(scene: Scene) -> None:
        results = told(scene, node, seeing(engine, steps=True))
        for sides in (results.sr, results.gsps):
            for error, length in zip(errors(scene, sides), scene.lengths, strict=True):
                step = length / 100
                measured["error with the grid, in its steps"].append(error / step)
                assert error < step / 2 + 0.5, (sides, scene)
        assert_drawn_over(results.sr, results, scene.rows)

    follow()
