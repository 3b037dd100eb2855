"""``litegpt-node demo`` as a person runs it: exit code 0 only if every study ended delivered."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

from litegpt.phantoms import phantom_files
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.peers.dicom3tools import dciodvfy
from tests.processes import running


def _demo(radiographs: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", "demo", "--radiographs", str(radiographs)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def test_a_demonstration_shows_a_report_and_a_picture_of_each_study(tmp_path: Path) -> None:
    done = _demo(phantom_files()[0], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 studies delivered" in done.stdout
    assert "demonstration trained on synthetic images" in done.stdout.replace("\n", " ")
    (report,) = tmp_path.glob("demo/*/pacs/*.dcm")
    assert dciodvfy(report) == []
    (picture,) = tmp_path.glob("demo/*/overlays/*.png")
    with Image.open(picture) as image:
        assert image.width > 100


def test_a_study_that_is_not_delivered_is_exit_code_1_and_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    make_radiograph(sop_class=DX_FOR_PROCESSING).save_as(folder / "raw.dcm", enforce_file_format=True)
    ct = make_radiograph(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
    ct.file_meta.MediaStorageSOPClassUID = ct.SOPClassUID
    ct.save_as(folder / "ct.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("not DICOM")
    done = _demo(folder, tmp_path)
    assert done.returncode == 1
    for words in (
        "not-applicable",
        "for processing",
        "not taken",
        "0 of 2 studies delivered",
        "1 other files",
    ):
        assert words in done.stdout, words


def test_ctrl_c_stops_the_demonstration_and_its_node(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli.main", "demo"]
    with running(
        command,
        log=tmp_path / "log",
        folder=tmp_path,
        stop_signal=signal.SIGINT,
        stop_timeout_seconds=40,
    ) as demo:
        demo.wait_until(lambda: list(tmp_path.glob("demo/*/node/up.json")), 60, "node of the demo")
        started = demo.descendants()
        assert started
    assert not any(process.is_running() and process.status() != "zombie" for process in started)
