"""``litegpt-node demo`` as a person runs it: exit code 0 only if every study ended delivered."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser
from pydicom import Dataset, dcmread
from rich.console import Console

from litegpt.phantoms import phantom_files
from service.errors import SettingsError
from service.records.overview import FindingView, ImageView, StudyView
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.peers.dcmtk import dsrdump
from tests.peers.dicom3tools import dciodvfy
from tests.presence import absent, real_radiographs
from tests.processes import running
from tests.viewer.ohif import ohif
from worker.demo.modality import OutgoingImage, SentImage, find_images
from worker.demo.ohif import fetch_ohif
from worker.demo.orthanc import OrthancProgram
from worker.demo.pacs import DemoPACS, ReceivedResult
from worker.demo.run import DemoStudy, _collect
from worker.demo.table import results_table, write_overlays


def _demo(radiographs: Path | None, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", "demo"]
    command += ["--radiographs", str(radiographs)] if radiographs else []
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def _sizes(files: Sequence[Path]) -> dict[str, tuple[str, int, int]]:
    """Name, columns and rows of each image, by SOP Instance UID."""
    headers = {path.name: dcmread(path, stop_before_pixels=True) for path in files}
    return {str(h.SOPInstanceUID): (name, h.Columns, h.Rows) for name, h in headers.items()}


def _regions(report: Dataset) -> Iterator[tuple[str, list[float]]]:
    """The regions of a report, each with the SOP Instance UID of its image."""
    for item in report.get("ContentSequence", ()):
        if item.ValueType == "SCOORD":
            image = item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            yield str(image), list(item.GraphicData)
        yield from _regions(item)


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


@pytest.mark.parametrize("which", ["the phantoms", "real radiographs"])
def test_every_radiograph_of_a_folder_comes_back_as_a_report(which: str, tmp_path: Path) -> None:
    files = phantom_files() if which == "the phantoms" else real_radiographs()
    done = _demo(None if which == "the phantoms" else files[0].parent, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("demo/*")
    for path in files:
        assert any(line.split()[:1] == [path.name] for line in done.stdout.splitlines()), path.name
        assert (folder / "overlays" / f"{path.name}.png").is_file()
    sizes, drawn = _sizes(files), 0
    reports = list(folder.glob("pacs/*.dcm"))
    for path in reports:
        assert dciodvfy(path) == []
        assert "Report" in dsrdump(path)
        for image, (x, y) in (
            (image, data[at : at + 2])
            for image, data in _regions(dcmread(path))
            for at in range(0, len(data), 2)
        ):
            _, columns, rows = sizes[image]
            assert 0 <= x <= columns and 0 <= y <= rows, (path, image, x, y)
            drawn += 1
    studies = {dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in files}
    assert {dcmread(path).StudyInstanceUID for path in reports} == studies
    if which == "the phantoms":
        assert drawn


BELOW = FindingView("Edema", 0.1, (1, 1, 9, 9), reported=False)


def test_pictures_of_files_with_one_name_stand_side_by_side(tmp_path: Path) -> None:
    studies = []
    for name in ("A/IM1.dcm", "B/IM1.dcm", "IM.1", "IM.2", "odd[/b].dcm"):
        path = tmp_path / "cd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_radiograph().save_as(path, enforce_file_format=True)
    for image in find_images(tmp_path / "cd")[0]:
        now = datetime.now(UTC)
        view = ImageView(
            image.sop_instance_uid, "", now, "", "stored", "", (FindingView("a[/b]", 1.0, None), BELOW)
        )
        study = StudyView("1.2", "", "", "done", "complete", 1, "done", 1, "", "", True, (view,))
        studies.append(DemoStudy("1.2", (SentImage(image, 0.0, ""),), study, (), None))
    written = write_overlays(studies, tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in written.values()}
    assert names == {"A/IM1.dcm.png", "B/IM1.dcm.png", "IM.1.png", "IM.2.png", "odd[/b].dcm.png"}
    assert all(path.is_file() for path in written.values())
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results_table(studies))
    table = console.export_text()
    for words in (
        "A/IM1.dcm",
        "B/IM1.dcm",
        "odd[/b].dcm",
        "a[/b] 1.00",
        "Edema 0.10 [1 1 9 9] (below threshold)",
        "[left top right bottom]",
    ):
        assert words in table, words


@pytest.mark.parametrize(
    ("answered", "came", "seconds"), [((8, 20), (10, 25), 5), ((8, 20), (10,), 0), ((1,), (), None)]
)
def test_the_time_is_from_the_last_answer_to_the_last_report(
    answered: tuple[float, ...], came: tuple[float, ...], seconds: float | None, tmp_path: Path
) -> None:
    image = OutgoingImage(tmp_path, "x", "1.1", "1.1.1", "1.2", "1.3")
    pacs = DemoPACS(tmp_path)
    if came:
        pacs.results["1.2"] = [ReceivedResult(tmp_path, at) for at in came]
    (study,) = _collect(pacs, [SentImage(image, at, "") for at in answered], {})
    assert study.seconds == seconds


def test_a_place_for_the_demonstration_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    done = _demo(None, tmp_path)
    assert (done.returncode, done.stderr) == (2, "litegpt-node: demo is not a folder\n")


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


@pytest.mark.parametrize("ends_with", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_viewer_shows_what_was_found_until_it_is_ended(
    ends_with: signal.Signals, tmp_path: Path, browser: Browser
) -> None:
    try:
        OrthancProgram.find()
        fetch_ohif()
    except SettingsError as error:
        absent(str(error))
    file = next(path for path in phantom_files() if path.stem == "phantom-two")
    command = [sys.executable, "-m", "service.cli.main", "demo", "--viewer", "--radiographs", file]
    with running(command, log=tmp_path / "log", folder=tmp_path, stop_timeout_seconds=60) as demo:
        demo.wait_until(lambda: "Ctrl-C ends the viewer" in demo.output(), 240, "address of the viewer")
        (study,) = re.findall(r"http://localhost:\d+/viewer\S+", demo.output())
        if ends_with == signal.SIGINT:
            with ohif(browser) as page:
                page.open(study, series=3)
                kinds = [modality for modality, _ in page.series()]
                page.open_report()
                drawn, labels = page.rectangles(1), page.labels()
            assert sorted(kinds) == ["DX", "OT", "SR"]
            assert len(drawn) == len(labels) == len(re.findall(r"\[\d+ \d+ \d+ \d+\]", demo.output())) > 0
        started = demo.descendants()
        assert demo.stop(ends_with, timeout_seconds=60) == 0
    assert not any(process.is_running() and process.status() != "zombie" for process in started)


def test_what_the_viewer_needs_is_said_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli.main", "demo", "--viewer"]
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert re.fullmatch(r"litegpt-node: (Orthanc|Orthanc's DICOMweb|npm) is not installed.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
