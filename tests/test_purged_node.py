"""A node that runs, purged by the real command: what people see, and what comes of images that come again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from litegpt.phantoms import phantom_files
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, storescp
from tests.worker.conftest import small_node


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Storescp]:
    with storescp(tmp_path / "pacs", ae_title="PACS") as receiver:
        yield receiver


@pytest.fixture
def node(tmp_path: Path, pacs: Storescp) -> Iterator[Node]:
    with node_up(tmp_path / "node", destinations=pacs.destination) as running:
        yield running


def _command(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "litegpt-node", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _ask(node: Node, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _command(node.data_dir.parent, command, *arguments, "--data-dir", node.data_dir)


def _files(node: Node) -> list[Path]:
    return [*(node.data_dir / "images").rglob("*.dcm"), *(node.data_dir / "results").rglob("*.dcm")]


def test_a_purged_study_is_known_and_its_image_may_come_again(node: Node, pacs: Storescp) -> None:
    path = phantom_files()[0]
    uid = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    dcmsend(node.port, path)
    (before,) = node.wait_for({uid}, "delivered")

    would = _ask(node, "purge", "--older-than", "0s", "--dry-run")
    assert would.stdout.startswith("purge: 1 studies, 1 images and 1 results, 0.00"), would.stderr
    assert would.stdout.endswith("(nothing was changed)\n") and len(_files(node)) == 2
    done = json.loads(_ask(node, "purge", "--older-than", "0s", "--json").stdout)
    assert (done["studies"], done["images"], done["results"], done["enough"]) == (1, 1, 1, True)
    assert _files(node) == []

    listed, shown = _ask(node, "studies").stdout, _ask(node, "show", uid).stdout
    assert "images purged 20" in listed
    assert shown.count("purged 20") == 2 and "images/" not in shown and "results/" not in shown
    assert [one.findings for one in node.studies()[uid].images] == [one.findings for one in before.images]
    assert "1 purged: the bytes are gone" in _ask(node, "resend", uid, "--again").stdout
    assert "1 read by this model already" in _ask(node, "rerun", uid).stdout

    (sent,) = dcmsend(node.port, path)
    assert sent.status == 0 and len(_files(node)) == 1
    # Another study goes the whole way; by then this one would have, too.
    other = phantom_files()[1]
    dcmsend(node.port, other)
    node.wait_for({str(pydicom.dcmread(other, stop_before_pixels=True).StudyInstanceUID), uid}, "delivered")
    assert pacs.store_requests() == 2, "one report each"
    after = node.studies()[uid]
    assert (after.analysis_id, after.purged_at) == (before.analysis_id, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "how far?"),
        (("--older-than", "9d", "--until-free", "200 apples"), "a size is written"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    small_node(tmp_path / "node-data").records.close()
    done = _command(tmp_path, "purge", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_too_little_is_free_and_nothing_may_go(tmp_path: Path) -> None:
    small_node(tmp_path / "node-data").records.close()
    done = _command(tmp_path, "purge", "--until-free", "999999T")
    assert done.returncode == 1
    assert done.stderr == "less than 999999T free, and nothing more that may go\n"
    assert _command(tmp_path, "purge", "--until-free", "1.5k").returncode == 0
