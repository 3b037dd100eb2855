"""An image that ends its decoder costs its own reading: not the worker, and not the images beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from tests.images import make_radiograph
from tests.worker.conftest import SmallNode, small_node
from tests.worker.decoders import BAD_ROWS, crash_on_bad, hang_on_bad, swell_on_bad
from worker.analysis import Analyst


def _node(folder: Path, seconds: float) -> SmallNode:
    return small_node(folder, decoding_processes=2, decoding_timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("decoder", "seconds", "why"),
    [
        (crash_on_bad, 60, "the decoder ended its process: SIGABRT"),
        (hang_on_bad, 15, "the decoder took longer than 15 s"),
        (swell_on_bad, 60, "the decoder has no memory for it"),
    ],
)
def test_the_other_images_are_read(
    decoder: Any, seconds: float, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.decoding.read_squares", decoder)
    node, study = _node(tmp_path / "node", seconds), generate_uid()
    node.take(*(make_radiograph(rows=rows, study_uid=study) for rows in (BAD_ROWS, 80)))
    Analyst(node.settings, node.records, node.archive, node.bell).drain()
    view = node.show(study)
    assert view.outcome == "done", view
    not_read = [image.not_read for image in view.images if image.not_read]
    assert len(not_read) == 1
    assert why in not_read[0]
