"""Two models on the same images: counts by hand, kappa by scikit-learn, both databases."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner, Result

from litegpt.boxes import Box
from litegpt.vocabulary import LABELS
from service.cli.main import application
from service.comparing import readings
from service.comparing.agreement import Agreement, ious
from service.comparing.differing import MostDiffering
from service.comparing.readings import Opinion, Opinions, StudyReadings
from service.errors import SettingsError
from service.records.database import Records
from service.records.journal import events
from service.records.states import AnalysisState
from service.settings import Settings
from tests.service.study_rows import NOW, AnalysisRow, FindingRow, ImageRow, StudyRow, write

DONE = AnalysisState.DONE


def _by(version: str, *images: tuple[FindingRow, ...], **values: Any) -> AnalysisRow:
    return AnalysisRow(values.pop("state", DONE), model_version=version, findings=images, **values)


def _edema(score: float, *box: float, reported: bool = True) -> FindingRow:
    return FindingRow("Edema", score, box or None, reported=reported)  # type: ignore[arg-type]


MASS = FindingRow("Nodule/Mass", 0.5, (0, 0, 10, 10))
AGREED = StudyRow((_by("1", (_edema(0.5, 0, 0, 10, 10),)), _by("2", (_edema(0.75, 0, 0, 10, 5),))))
"""Both say Edema, of which the second's box is the upper half."""
DIFFERED = StudyRow(
    (
        _by("1", (_edema(0.25, 0, 0, 4, 4), MASS), (MASS,), ()),
        _by("2", (_edema(0.125, 0, 0, 4, 4, reported=False),), (), (FindingRow("COPD", 0.75),)),
    ),
    (ImageRow(), ImageRow(), ImageRow(), ImageRow("lateral view LL")),
    accession_number="A[/1]",
)
"""Edema is reported by the first alone though both have it, a mass by the first twice, COPD by the second."""
APART = (
    # Read by one alone, by the other not yet, or not to be read by it.
    StudyRow((_by("1", (MASS,)),)),
    StudyRow((_by("1", (MASS,)), _by("2", state=AnalysisState.QUEUED))),
    StudyRow((_by("1", (MASS,)), _by("2", images=1)), (ImageRow(not_read="broken"), ImageRow())),
)
UNCHANGED = StudyRow(
    (_by("1", (MASS,)), _by("1", ()), _by("2", ()), _by("3", (MASS,))), received_at=NOW - timedelta(days=9)
)
"""The first model read it twice; its last word, and that of neither a third, counts."""


@pytest.fixture
def filled(records: Records) -> Records:
    with records.writing() as session:
        for number, row in enumerate((AGREED, DIFFERED, UNCHANGED, *APART)):
            write(session, row, f"1.2.{number}")
    return records


def _compare(settings: Settings, *arguments: str) -> Result:
    url = {"LITEGPT_DATABASE_URL": settings.database_url} if settings.database_url else {}
    command = ["compare", "--data-dir", str(settings.data_dir), *arguments]
    return CliRunner().invoke(application(), command, env={"COLUMNS": "200", **url})


def _as_json(settings: Settings, *arguments: str) -> dict[str, Any]:
    done = _compare(settings, "--json", "--model", "1", "--model", "model 2", *arguments)
    assert done.exit_code == 0, done.output
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_labels_are_counted_by_image(filled: Records, settings: Settings) -> None:
    said = _as_json(settings)
    assert (said["a"]["version"], said["b"]["version"]) == ("1", "2")
    assert said["a"] == {"id": "model", "version": "1", "demonstration": True}
    assert (said["studies"], said["images"]) == (3, 5)
    counts = (
        "reported_a",
        "reported_b",
        "both",
        "only_a",
        "only_b",
        "neither",
        "box_pairs",
        "scored_by_both",
    )
    assert {row["label"]: tuple(row[name] for name in counts) for row in said["labels"]} == {
        "Edema": (2, 1, 1, 1, 0, 3, 1, 2),
        "Nodule/Mass": (2, 0, 0, 2, 0, 3, 0, 0),
        "COPD": (0, 1, 0, 0, 1, 4, 0, 0),
    }
    edema, mass, copd = said["labels"]
    assert edema["mean_iou"] == 0.5
    assert edema["mean_score_difference"] == (0.25 - 0.125) / 2
    assert edema["kappa"] == pytest.approx(cohen_kappa_score([1, 1, 0, 0, 0], [1, 0, 0, 0, 0]), rel=1e-12)
    assert (mass["kappa"], mass["mean_iou"], mass["mean_score_difference"]) == (0, None, None)
    assert copd["kappa"] == 0


def test_studies_that_differ_most_come_first(filled: Records, settings: Settings) -> None:
    differing, agreed = _as_json(settings)["studies_that_differ"]
    assert differing == {
        "study_instance_uid": "1.2.1",
        "accession_number": "A[/1]",
        "labels_that_differ": 3,
        "only_a": ["Edema", "Nodule/Mass"],
        "only_b": ["COPD"],
        "score_difference": 0.125,
    }
    assert (agreed["study_instance_uid"], agreed["labels_that_differ"]) == ("1.2.0", 0)
    assert agreed["score_difference"] == 0.25
    assert _as_json(settings, "--limit", "1")["studies_that_differ"] == [differing]
    assert _as_json(settings, "--limit", "0")["studies_that_differ"] == []


def test_dates_choose_studies(filled: Records, settings: Settings) -> None:
    day = f"{NOW - timedelta(days=9):%Y-%m-%d}"
    assert _as_json(settings, "--until", day)["images"] == 1
    assert _as_json(settings, "--since", f"{NOW:%Y-%m-%d}")["images"] == 4
    none = _compare(settings, "--model", "1", "--model", "2", "--study-date", "2024-01-01")
    assert (none.exit_code, none.stdout.splitlines()[-1]) == (1, "no image has been read by both")


def test_pages_are_summed_up(filled: Records, settings: Settings, monkeypatch: Any) -> None:
    whole = _as_json(settings)
    monkeypatch.setattr(readings, "PAGE", 1)
    assert _as_json(settings) == whole


def test_people_get_tables(filled: Records, settings: Settings) -> None:
    done = _compare(settings, "--model", "2", "--model", "1")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["A", "is", "model", "2,", "B", "is", "model", "1"]
    assert lines[1] == ["5", "images", "of", "3", "studies", "have", "been", "read", "by", "both"]
    assert ["Edema", "1", "2", "1", "0", "1", "3", "0.55", "0.50", "-0.06"] in lines
    assert ["Nodule/Mass", "0", "2", "0", "0", "2", "3", "0.00", "-", "-"] in lines
    assert ["1.2.1", "A[/1]", "3", "COPD", "Edema,", "Nodule/Mass", "0.12"] in lines
    assert "demonstration model" in done.stdout


def test_nothing_read_by_both_is_exit_code_1(filled: Records, settings: Settings) -> None:
    with filled.writing() as session:
        write(session, StudyRow((_by("4", ()),)))
    done = _compare(settings, "--json", "--model", "1", "--model", "4")
    assert (done.exit_code, json.loads(done.stdout)["images"]) == (1, 0)


def test_a_model_is_named_so_that_only_one_is_meant(filled: Records, settings: Settings) -> None:
    with filled.writing() as session:
        write(session, StudyRow((_by("2", (), model_id="other"),)))
    there = "model 1, model 2, model 3, other 2"
    for names, complaint in (
        (("1", "9"), f"no model is called '9'; there are: {there}"),
        (("1", "2"), "more than one model is called '2'; there are: model 2, other 2"),
        (("1", "model 1"), "both are model 1: name two models"),
        (("1",), "which two models? name each by --model"),
        (("1", "model 2", "3"), "which two models? name each by --model"),
    ):
        done = _compare(settings, *(part for name in names for part in ("--model", name)))
        assert isinstance(done.exception, SettingsError)
        assert str(done.exception) == complaint
    assert [str(one) for one in readings.models_named(filled, ["3", "other 2"])] == ["model 3", "other 2"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_kappa_is_that_of_scikit_learn(said: list[tuple[bool, bool]]) -> None:
    agreement = Agreement()
    for a, b in said:
        agreement.add({"Edema": Opinion(0.5, a)}, {"Edema": Opinion(0.5, b)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = cohen_kappa_score(*zip(*said, strict=True), labels=[False, True])
    ours = agreement.by_label["Edema"].kappa(len(said))
    if ours is None:
        assert theirs != theirs, "scikit-learn says not-a-number where chance alone agrees as much"
    else:
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_what_is_never_said_needs_no_finding_to_count() -> None:
    """Most images have no finding of a label at all; they count as not reported."""
    agreement = Agreement()
    for a, b in (("Edema", "Edema"), ("Edema", "COPD"), ("COPD", "COPD"), ("", "")):
        agreement.add(_said(a), _said(b))
    theirs = cohen_kappa_score([1, 1, 0, 0], [1, 0, 0, 0])
    assert agreement.by_label["Edema"].kappa(agreement.images) == pytest.approx(theirs)
    assert agreement.labels() == ["Edema", "COPD"]
    agreement.add(_said("Zebra"), _said(LABELS[0]))
    assert agreement.labels() == [LABELS[0], "Edema", "COPD", "Zebra"]


def _said(label: str, score: float = 0.5) -> Opinions:
    return {label: Opinion(score, reported=True)} if label else {}


def test_boxes_are_paired_by_their_overlap() -> None:
    left, right = Box(0, 0, 10, 10), Box(20, 0, 30, 10)
    half, far = Box(20, 0, 30, 5), Box(90, 90, 99, 99)
    assert ious([left, right], [half, left]) == [1, 0.5]
    assert ious([left, right], [right]) == [1]
    assert ious([left], [far]) == [0]
    assert ious([left], []) == []
    assert ious([left, left], [left, far]) == [1, 0]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from((0.0, 0.25, 0.5))), max_size=30),
    st.integers(0, 8),
)
def test_only_the_first_are_held_and_they_are_the_first(cases: list[tuple[int, float]], limit: int) -> None:
    """As if all were sorted: by labels, then by scores, then the oldest first."""
    most = MostDiffering(limit)
    for study_id, (labels, difference) in enumerate(cases):
        a = {LABELS[place]: Opinion(0.5, reported=True) for place in range(labels)} | _said("Other", 0.5)
        most.add(StudyReadings(study_id, f"1.{study_id}", "", [(a, _said("Other", 0.5 + difference))]))
        assert len(most.in_order()) <= limit
    ranked = sorted(
        (-labels, -difference, study_id)
        for study_id, (labels, difference) in enumerate(cases)
        if labels or difference
    )
    assert [one.study_id for one in most.in_order()] == [study_id for *_, study_id in ranked[:limit]]


def test_who_compared_what_is_in_the_audit(filled: Records, settings: Settings) -> None:
    _as_json(settings, "--since", "2020-01-01")
    with filled.reading() as session:
        (event,) = events(session)
    assert event.who.endswith(", command line")
    assert (event.action, event.outcome) == ("compare", {"studies": 3, "images": 5})
    assert event.asked["studies"] == {"since": "2020-01-01 00:00:00+00:00"}
    assert (event.asked["a"].partition(",")[0], event.asked["b"].partition(",")[0]) == ("model 1", "model 2")
