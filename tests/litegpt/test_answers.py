"""The strict writer and the lenient reader of answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.answers import (
    GLOBAL_PREFIX,
    LOCAL_PREFIX,
    GridFinding,
    canonical_order,
    read_diagnoses,
    read_findings,
    read_report,
    write_diagnoses,
    write_findings,
    write_report,
)
from litegpt.boxes import GRID, GridBox
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING

coordinates = st.integers(0, GRID)
intervals = st.tuples(coordinates, coordinates).map(sorted).filter(lambda pair: pair[0] < pair[1])
grid_boxes = st.tuples(intervals, intervals).map(
    lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
)
grid_findings = st.lists(st.tuples(st.sampled_from(LOCAL_LABELS), grid_boxes), max_size=12)


@settings(deadline=None)
@given(grid_findings)
def test_what_was_written_is_read_back(findings: list[GridFinding]) -> None:
    answer = read_findings(write_findings(findings))
    assert [(read.label, read.box) for read in answer.labels] == canonical_order(findings)
    assert answer.malformed == 0


@settings(deadline=None)
@given(st.sets(st.sampled_from(DIAGNOSES[:-1])))
def test_diagnoses_written_are_read_back(diagnoses: set[str]) -> None:
    answer = read_diagnoses(write_diagnoses(diagnoses))
    assert [read.label for read in answer.labels] == (sorted(diagnoses, key=DIAGNOSES.index) or [NO_FINDING])
    assert answer.malformed == 0


@settings(deadline=None)
@given(grid_findings, st.sets(st.sampled_from(DIAGNOSES[:-1])))
def test_a_report_written_is_read_back(findings: list[GridFinding], diagnoses: set[str]) -> None:
    """Everything that can be said without contradiction: findings need a diagnosis."""
    said = findings if diagnoses else []
    text = write_report(said, diagnoses)
    answer = read_report(text)
    assert [(read.label, read.box) for read in answer.labels if read.box] == canonical_order(said)
    assert [read.label for read in answer.labels if read.box is None] == (
        sorted(diagnoses, key=DIAGNOSES.index) or [NO_FINDING]
    )
    assert answer.malformed == 0
    for read in answer.labels:
        assert text[read.start : read.end].endswith(read.label)
        assert text[read.end : read.box_end].endswith(f"<{read.box[3]}" if read.box else "")


@settings(deadline=None)
@given(st.text() | st.text(alphabet="<p>/{}0123456789,. ILDand-"))
def test_no_text_breaks_the_reader(text: str) -> None:
    for answer in (read_findings(text), read_diagnoses(text), read_report(text)):
        assert answer.labels or answer.malformed or NO_FINDING.casefold() in text.casefold()
        for read in answer.labels:
            assert 0 <= read.start < read.end <= len(text)
            if read.box is not None:
                assert 0 <= read.box[0] < read.box[2] <= GRID and 0 <= read.box[1] < read.box[3] <= GRID


def test_the_published_format_to_the_letter() -> None:
    findings = [("Pleural effusion", (60, 70, 88, 90)), ("Consolidation", (55, 48, 80, 71))]
    assert write_findings(findings) == (
        "Local diseases of this chest radiograph are <p>Consolidation</p> {<55><48><80><71>},"
        "<p>Pleural effusion</p> {<60><70><88><90>}."
    )
    assert write_findings([]) == "Local diseases of this chest radiograph are No finding."
    assert write_diagnoses(["Tuberculosis", "Pneumonia"]) == (
        "Global diseases of this chest radiograph are Pneumonia, Tuberculosis."
    )
    assert write_diagnoses([]) == "Global diseases of this chest radiograph are No finding."


def test_the_published_report_to_the_letter() -> None:
    box, local = [("Consolidation", (55, 48, 80, 71))], "Local diseases of this chest radiograph are "
    overall = "Global diseases of this chest radiograph are "
    assert write_report(box, ["Tuberculosis", "Pneumonia"]) == (
        f"{overall}Pneumonia, Tuberculosis. {local}<p>Consolidation</p> {{<55><48><80><71>}}."
    )
    assert write_report([], []) == write_report([], ["No finding"]) == f"{overall}No finding."
    assert write_report([], ["COPD"]) == f"{overall}COPD. {local}No finding."


@pytest.mark.parametrize(
    ("findings", "diagnoses", "message"),
    [
        ([("ILD", (1, 2, 3, 4))], [], "findings without a diagnosis"),
        ([("ILD", (1, 2, 3, 4))], ["No finding"], "contradicts"),
        ([], ["COPD", "No finding"], "contradicts"),
        ([("ILD", (3, 2, 3, 4))], ["COPD"], "is no box on the grid"),
    ],
)
def test_a_report_that_contradicts_itself_is_not_written(
    findings: list[GridFinding], diagnoses: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(findings, diagnoses)


ILD = "<p>ILD</p> {<1><2><3><4>}"


@pytest.mark.parametrize(
    ("text", "labels", "malformed"),
    [
        (f"{GLOBAL_PREFIX}COPD. {LOCAL_PREFIX}{ILD}.", ["ILD", "COPD"], 0),
        (f"{LOCAL_PREFIX}{ILD}. {GLOBAL_PREFIX}COPD and Pneumonia.", ["ILD", "COPD", "Pneumonia"], 0),
        (f"{GLOBAL_PREFIX}No finding. {LOCAL_PREFIX}No finding.", ["No finding"], 0),
        ("No finding.", ["No finding"], 0),
        (f"COPD. {LOCAL_PREFIX}{ILD}.", ["ILD", "COPD"], 0),
        (f"{GLOBAL_PREFIX}No finding. {LOCAL_PREFIX}{ILD}.", ["ILD"], 1),
        (f"{GLOBAL_PREFIX}COPD.", ["COPD"], 1),
        (f"{LOCAL_PREFIX}{ILD}.", ["ILD"], 1),
        (f"{GLOBAL_PREFIX}COPD, measles. {LOCAL_PREFIX}{ILD},<p>Edema</p> {{<1>", ["ILD", "COPD"], 2),
        (f"{GLOBAL_PREFIX}. {LOCAL_PREFIX}.", [], 2),
        ("I cannot tell.", [], 1),
        ("", [], 1),
    ],
)
def test_reports_are_read_leniently(text: str, labels: list[str], malformed: int) -> None:
    answer = read_report(text)
    assert ([read.label for read in answer.labels], answer.malformed) == (labels, malformed)


def test_findings_of_one_label_go_from_top_to_bottom() -> None:
    lower, upper, left = (10, 50, 20, 60), (10, 5, 20, 15), (5, 50, 20, 60)
    findings = [("ILD", lower), ("ILD", upper), ("ILD", left), ("Atelectasis", lower)]
    assert canonical_order(findings) == [
        ("Atelectasis", lower),
        ("ILD", upper),
        ("ILD", left),
        ("ILD", lower),
    ]


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, 101, 5), (-1, 0, 5, 5)])
def test_the_writer_refuses_what_is_no_box_on_the_grid(box: GridBox) -> None:
    with pytest.raises(ValueError, match="is no box on the grid of 0 to 100"):
        write_findings([("ILD", box)])


@pytest.mark.parametrize(
    ("written", "box"),
    [
        ("{<10><20><30><40>}", (10, 20, 30, 40)),
        ("{<30><40><10><20>}", (10, 20, 30, 40)),
        ("{<10><20><300><40>}", (10, 20, 100, 40)),
        ("{<-10><20><30><40>}", (0, 20, 30, 40)),
        ("{ <10>, <20>, <30>, <40> }", (10, 20, 30, 40)),
        ("{10 20 30 40}", (10, 20, 30, 40)),
        ("{<10.4><20><30><39.6>}", (10, 20, 30, 40)),
    ],
)
def test_boxes_are_read_leniently(written: str, box: GridBox) -> None:
    answer = read_findings(f"<p>ild</p>{written}")
    assert [(read.label, read.box) for read in answer.labels] == [("ILD", box)]
    assert answer.malformed == 0


@pytest.mark.parametrize(
    "written",
    [
        "<p>ILD</p>",
        "<p>ILD</p> {}",
        "<p>ILD</p> {<10><20><30>}",
        "<p>ILD</p> {<10><20><30><40><50>}",
        "<p>ILD</p> {<1020><3040>}",
        "<p>ILD</p> {<10><20><10><40>}",
        "<p>ILD</p> {<200><20><300><40>}",
        "<p>Common cold</p> {<10><20><30><40>}",
        "<p>Pneumonia</p> {<10><20><30><40>}",
        "<p>ILD",
        "",
        "I cannot tell.",
    ],
)
def test_what_says_nothing_is_dropped_and_counted(written: str) -> None:
    answer = read_findings(f"Local diseases of this chest radiograph are {written}.")
    assert (answer.labels, answer.malformed) == ((), 1)


def test_a_bad_piece_does_not_take_the_good_ones_with_it() -> None:
    good = "<p>ILD</p> {<1><2><3><4>}"
    answer = read_findings(f"{good},<p>Edema</p> {{<1>}},<p>Edema</p> {{<5><6><7><8>}},<p>Nod")
    assert [read.label for read in answer.labels] == ["ILD", "Edema"]
    assert answer.malformed == 2


@pytest.mark.parametrize(
    ("text", "labels", "malformed"),
    [
        ("COPD and Pneumonia", ["COPD", "Pneumonia"], 0),
        ("Global diseases of this chest radiograph are Other diseases.", ["Other disease"], 0),
        ("Lung Tumor; copd", ["Lung tumor", "COPD"], 0),
        ("COPD, No finding", ["COPD"], 1),
        ("COPD, COPD", ["COPD"], 0),
        ("COPD, measles", ["COPD"], 1),
        ("", [], 1),
        ("Global diseases of this chest radiograph are .", [], 1),
    ],
)
def test_diagnoses_are_read_leniently(text: str, labels: list[str], malformed: int) -> None:
    answer = read_diagnoses(text)
    assert ([read.label for read in answer.labels], answer.malformed) == (labels, malformed)


def test_a_label_s_span_begins_where_the_last_statement_ended() -> None:
    text = write_findings([("ILD", (1, 2, 3, 4)), ("Nodule/Mass", (1, 2, 3, 4))])
    spans = [text[read.start : read.end] for read in read_findings(text).labels]
    assert spans == [" <p>ILD", ",<p>Nodule/Mass"]
    text = write_diagnoses(["COPD", "Lung tumor"])
    assert [text[read.start : read.end] for read in read_diagnoses(text).labels] == [" COPD", ", Lung tumor"]
