"""``litegpt-train evaluate`` on datasets, as a person calls it, with the shipped model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from litegpt.identity import read_identity
from litegpt.vocabulary import DIAGNOSES, LABELS
from tests.training.evaluation.datasets import (
    drawn,
    write_json_lines,
    write_mimic_cxr,
    write_nih,
    write_phantoms,
    write_vindr_cxr,
)
from tests.waiting import wait_until
from training.cli import app
from training.errors import TrainingError
from training.evaluation.journal import read_readings

runner = CliRunner()


def evaluate(*arguments: object) -> Result:
    words = ["evaluate", "phantom", *map(str, arguments), "--resamples", "0"]
    return runner.invoke(app, words, env={"COLUMNS": "120"})


def figures(*arguments: object) -> dict[str, Any]:
    result = evaluate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def test_three_shapes_of_one_test_set_give_the_same_figures(tmp_path: Path) -> None:
    """Phantoms drawn on the fly, as JSON lines, and as VinDr-CXR: the model reads the same pixels."""
    fresh = figures("--images", 4, "--seed", 31)
    lines = figures("jsonl", write_json_lines(tmp_path / "lines", 4), "--boxes", "first")
    vindr = figures("vindr-cxr", write_vindr_cxr(tmp_path / "vindr", 4))
    assert fresh["scores"]["images"] == 4
    assert set(lines["scores"]["support"]) == set(vindr["scores"]["support"]) == set(LABELS)
    for one in (lines, vindr):
        micro, expected = (
            some["scores"]["classification"]["exact"]["combined"]["micro"] for some in (one, fresh)
        )
        assert micro == expected
        for label in LABELS:
            assert one["scores"]["support"][label] == fresh["scores"]["support"][label]
    assert lines["scores"]["froc"] == fresh["scores"]["froc"]
    assert lines["scores"]["text"]["rougeL"] == fresh["scores"]["text"]["rougeL"]


def test_labels_without_boxes_are_classified_and_not_looked_for(tmp_path: Path) -> None:
    found = figures("nih", write_nih(tmp_path, 5))["scores"]
    assert found["images"] == 5 and found["failed"] == 0
    assert sum(found["support"].values()) > 0
    assert "COPD" not in found["support"] and "Other disease" not in found["support"]
    assert found["classification"]["exact"]["combined"]["micro"]["f1"]["value"] > 0.5
    assert found["auroc"]["combined"]["value"] > 0.5
    assert not {"accuracy", "map", "froc", "iou", "text"} & set(found)
    assert found["not_computed"]["Localisation"] == "the test set has no box"
    assert "by their boxes" in found["not_computed"]["Likeness of texts"]


def test_labels_are_judged_where_a_report_speaks_of_them(tmp_path: Path) -> None:
    found = figures("mimic-cxr", write_mimic_cxr(tmp_path, 6))["scores"]
    assert found["images"] == 6 and found["failed"] == 0
    spoken_of = {"Cardiomegaly": 2, "Edema": 0, "Lung Opacity": 1, "Pleural effusion": 1, "No finding": 3}
    assert {label: found["support"].get(label) for label in spoken_of} == spoken_of
    assert not {"Rib fracture", "COPD", "Tuberculosis"} & set(found["support"])
    assert found["classification"]["exact"]["combined"]["micro"]["f1"]["value"] > 0.5
    assert not {"accuracy", "map", "froc", "iou", "text"} & set(found)


def test_a_label_is_looked_for_if_it_has_a_box_anywhere(tmp_path: Path) -> None:
    """The list of boxes has one consolidation of two, and neither effusion nor atelectasis."""
    found = figures("nih", write_nih(tmp_path, 5, boxes=1))["scores"]
    assert {label: found["support"][label] for label in ("Pleural effusion", "Consolidation")} == {
        "Pleural effusion": 2,
        "Consolidation": 2,
    }
    placed = {label for label, one in found["iou"]["label"].items() if one["value"] is not None}
    assert placed == {"Consolidation"}
    assert not {"Pleural effusion", "Atelectasis"} & set(found["iou"]["label"])
    words = "the test set has none of Atelectasis, Pleural effusion"
    assert found["not_computed"]["Likeness of texts"].endswith(words)


def test_labels_judged_on_some_images_are_told(tmp_path: Path) -> None:
    file = write_json_lines(tmp_path, 3)
    first, *others = file.read_text().splitlines()
    judged = json.dumps({**json.loads(first), "judged": ["Nodule/Mass", "Lung tumor"]})
    file.write_text("\n".join([judged, *others, ""]))
    result = evaluate("jsonl", file, "--markdown")
    assert result.exit_code == 0, result.output
    note = next(line for line in result.stdout.splitlines() if line.startswith("Judged on some"))
    assert "Atelectasis 2, " in note and "Nodule/Mass" not in note and "No finding 2" in note


def test_out_keeps_readings_and_figures_and_a_second_run_reads_nothing_anew(tmp_path: Path) -> None:
    folder, out = write_phantoms(tmp_path / "phantoms", 3), tmp_path / "out"
    call = ("phantom", folder, "--split", "all", "--out", out)
    first = figures(*call)
    lines = (out / "readings.jsonl").read_text().splitlines()
    assert json.loads((out / "measures.json").read_text()) == first
    assert (
        f"litegpt-phantom {read_identity('phantom').version} on Phantoms, all"
        in (out / "measures.md").read_text()
    )
    assert "PHANTOM" in (out / "measures.md").read_text()
    assert [Path(one.file or "").name for one in read_readings(out)] == sorted(
        path.name for path in folder.glob("*.dcm")
    )
    assert len(list((out / "images").glob("*.jpg"))) == 3
    for path in folder.glob("*.dcm"):
        path.write_bytes(b"no image any more")
    assert figures(*call) == first
    assert (out / "readings.jsonl").read_text().splitlines() == lines


def test_a_larger_limit_goes_on_from_a_smaller_one(tmp_path: Path) -> None:
    folder, out = write_phantoms(tmp_path / "phantoms", 4), tmp_path / "out"
    call = ("phantom", folder, "--split", "all", "--no-pictures", "--out", out)
    figures(*call, "--limit", 2)
    before = (out / "readings.jsonl").read_text()
    with (out / "readings.jsonl").open("a") as file:
        file.write('{"image_id": "torn')
    assert figures(*call)["scores"]["images"] == 4
    assert (out / "readings.jsonl").read_text().startswith(before)
    assert len(read_readings(out)) == 4
    assert not (out / "images").exists()


def test_ctrl_c_keeps_what_was_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training.cli", "evaluate", "phantom", "--images", "2000", "--out", out]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"}
    ) as run:
        try:
            readings = out / "readings.jsonl"
            wait_until(lambda: readings.exists() and readings.stat().st_size > 0, 120, "the first reading")
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode == 130
    kept = len(read_readings(out))
    assert 0 < kept < 2000
    assert f"stopped: {kept} images are kept in {out}; the same command goes on" in said.replace("\n", "")


def test_an_image_that_cannot_be_read_is_told_and_counted(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path, 3)
    broken = sorted(folder.glob("*.dcm"))[1]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    result = evaluate("phantom", folder, "--split", "all", "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 images, of which 1 could not be read:" in result.stderr
    assert f"  {broken}: " in result.stderr
    assert "1 images could not be read: they count as if nothing was said of them." in result.stdout
    broken.write_bytes(content)  # once it can be read, it is
    assert figures("phantom", folder, "--split", "all", "--out", out)["scores"]["failed"] == 0


def test_what_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    folder, out = write_phantoms(tmp_path / "phantoms", 2), tmp_path / "out"
    figures("--images", 1, "--out", out)
    for arguments, words in (
        (
            ("phantom", folder),
            "no image to measure in test: it has images in train 2; choose one with --split",
        ),
        (("phantom", folder, "--split", "all", "--out", out), f"{out} holds another run, with dataset "),
        (
            ("--images", 2, "--seed", 5, "--out", out),
            f"{out} holds another run, with split seed 999 and not ",
        ),
    ):
        error = evaluate(*arguments).exception
        assert isinstance(error, TrainingError) and words in str(error), error
    for wrong, complaint in (
        (("phantom",), "say where phantom lies"),
        (("phantom", folder, "--images", 3), "say --limit"),
        (("--limit", 3), "say --images"),
    ):
        result = evaluate(*wrong)
        assert result.exit_code == 2 and complaint in result.output


def test_fresh_phantoms_are_judged_on_what_can_be_drawn() -> None:
    measured = figures("--images", 2, "--seed", 31)["scores"]
    assert list(measured["support"]) == list(LABELS)
    for label in DIAGNOSES:
        assert measured["support"][label] == sum(label in one.diagnoses for one in drawn(2))
