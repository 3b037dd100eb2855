"""The page, as text and in a browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from litegpt.identity import ModelIdentity, model_folder, read_identity
from litegpt.vocabulary import NO_FINDING
from tests.presence import program
from tests.training.datasets.reading import write
from tests.training.report.conftest import made_up
from training.cli import app
from training.errors import TrainingError
from training.evaluation.journal import Journal, Run, read_readings, read_run
from training.evaluation.measured_run import MeasuredRun
from training.report.page import evaluation_part, report_page

SOME_RUN = Run(ModelIdentity("model", "1", demonstration=False), "", "NIH", "test", "as it is")

PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images];
  document.querySelector(".frame").click();
  const dialog = document.querySelector("dialog");
  document.documentElement.dataset.found = JSON.stringify({
    widths: pictures.map(one => one.naturalWidth),
    overflow: document.documentElement.scrollWidth - innerWidth,
    large: dialog.open && dialog.querySelector("img").naturalWidth,
    heights: [...document.querySelectorAll("svg")].map(one => one.getBoundingClientRect().height),
  });
});</script>"""


@pytest.fixture(scope="module")
def page(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    folders = [str(evaluated), str(model_folder("phantom"))]
    result = CliRunner().invoke(app, ["report", *folders, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout.replace("\n", "")
    return out


def test_it_says_what_it_is_of_and_that_it_is_no_patient(page: Path) -> None:
    text = html.unescape(page.read_text())
    for words in (
        "PHANTOM:",
        "Nothing here says anything about patients",
        f"litegpt-phantom {read_identity('phantom').version}",
        "fresh phantoms, seed 31337",
        "F1 by substring, macro",
        "never comparable with",
        "Training: phantom",
        "Contact sheet",
        "phantom-31337-000001",
    ):
        assert words in text, words
    rows = re.findall(r"<tr><td>Accuracy@0\.5, published</td>(.*?)</tr>", text)
    assert rows and rows[0].endswith("<td>0.081</td>")


def test_it_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|http-equiv', "", text)


@pytest.mark.parametrize("width", [1280, 520])
def test_a_browser_shows_it_without_complaint(page: Path, width: int, tmp_path: Path) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    found, complaints = in_browser(probed, width, tmp_path / "profile")
    assert complaints == []
    assert len(found["widths"]) == 6 and min(found["widths"]) > 0
    assert found["large"] > 0
    assert found["overflow"] <= 0
    assert min(found["heights"]) > 30


def in_browser(page: Path, width: int, profile: Path) -> tuple[dict[str, Any], list[str]]:
    """What the probe found, and what the browser wrote on its console."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    command = [program("chromium", package="chromium"), *options, f"--user-data-dir={profile}"]
    ended = subprocess.run(
        [*command, f"--window-size={width},900", "--virtual-time-budget=20000", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', ended.stdout)
    assert found, ended.stderr
    return json.loads(html.unescape(found[1])), [
        line for line in ended.stderr.splitlines() if ":CONSOLE" in line
    ]


def test_an_evaluation_that_was_not_measured_yet_is_measured(evaluated: Path, tmp_path: Path) -> None:
    run = read_run(evaluated)
    with Journal(tmp_path, run) as journal:
        for one in read_readings(evaluated)[:3]:
            journal.add(replace(one, picture=None))
    part = evaluation_part(tmp_path, "e")
    assert part.images == 3
    assert [card.picture for group in part.sheet for card in group.cards] == [None] * 3
    assert "no picture of it was kept" in report_page([tmp_path])


def test_figures_come_back_from_disk_as_they_were(evaluated: Path) -> None:
    run = read_run(evaluated)
    kept = MeasuredRun.read(evaluated, run)
    assert kept == MeasuredRun.of(run, read_readings(evaluated), resamples=10)
    assert kept.to_json() + "\n" == (evaluated / "measures.json").read_text()


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    one = replace(made_up(1, 1)[0], image_id="<script>alert(1)</script>")
    run = replace(SOME_RUN, model=ModelIdentity("m<b>", "1", demonstration=False))
    with Journal(tmp_path, run) as journal:
        journal.add(one)
    text = report_page([tmp_path])
    assert "<script>alert" not in text and "m<b>" not in text
    assert "PHANTOM" not in text


def test_a_test_set_without_boxes_has_no_froc_and_no_confusion(tmp_path: Path) -> None:
    with Journal(tmp_path, SOME_RUN) as journal:
        for one in made_up(2, 12):
            truth = one.case.truth
            unplaced = replace(truth, boxes=(), present=truth.placed)
            journal.add(replace(one, case=replace(one.case, truth=unplaced)))
    part = evaluation_part(tmp_path, "e")
    assert [plot.heading for plot in part.plots] == ["Precision over recall", "Calibration of labels"]
    assert all(plot.values[1] == "" for plot in part.small)
    assert NO_FINDING in [plot.label for plot in part.small]


def test_what_cannot_be_shown_is_one_line(tmp_path: Path, evaluated: Path) -> None:
    with pytest.raises(TrainingError, match="holds neither an evaluation"):
        report_page([tmp_path])
    write(tmp_path / "run.json", "{}")
    with pytest.raises(TrainingError, match=r"run\.json is not the run\.json of an evaluation"):
        report_page([tmp_path])
    (tmp_path / "run.json").write_bytes((evaluated / "run.json").read_bytes())
    with pytest.raises(TrainingError, match="holds no reading yet"):
        report_page([tmp_path])
    write(tmp_path / "readings.jsonl", '{"image_id": 3}')
    with pytest.raises(TrainingError, match=r"readings\.jsonl:1: not a reading"):
        report_page([tmp_path])
    (tmp_path / "readings.jsonl").write_bytes((evaluated / "readings.jsonl").read_bytes())
    write(tmp_path / "measures.json", "[]")
    with pytest.raises(TrainingError, match="does not hold the figures"):
        report_page([tmp_path])


def test_the_help_has_an_example() -> None:
    result = CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "120"})
    assert "Example: litegpt-train report" in result.stdout
