"""Rules: what holds, by hand-worked cases; the first wins; what is wrong is told with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.findings import Finding
from service.errors import SettingsError
from service.records.states import Priority
from service.rules.facts import Facts
from service.rules.place import line_and_column
from service.rules.rule import ResultRule, StudyRule
from service.rules.rulebook import Rules
from service.settings import load_settings
from tests.images import make_radiograph

EMERGENCY = Facts("ER1", "LITEGPT", "ER-ROOM-2", "DX", "CHEST", ("THORAX AP LIEGEND", "BEDSIDE"), 54.0)
WARD = Facts("WARD3", "LITEGPT", "W3", "CR", "CHEST", (), None)


def _rules(folder: Path, text: str) -> Rules:
    (folder / "node.toml").write_text(text, encoding="utf-8")
    return Rules.read(load_settings(folder / "node.toml", data_dir=folder / "data"))


def _complaint(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        _rules(folder, text)
    return str(caught.value).replace(str(folder / "node.toml"), "FILE")


@pytest.mark.parametrize(
    ("conditions", "image", "why_not"),
    [
        ({}, EMERGENCY, ""),
        ({"calling_ae_title": "er*"}, EMERGENCY, ""),
        ({"calling_ae_title": ("X", "ER?")}, EMERGENCY, ""),
        ({"calling_ae_title": "ER"}, EMERGENCY, "calling_ae_title is 'ER1', not 'ER'"),
        ({"called_ae_title": "LITEGPT2"}, EMERGENCY, "called_ae_title is 'LITEGPT', not 'LITEGPT2'"),
        ({"station_name": "*room*"}, EMERGENCY, ""),
        ({"modality": ("CR", "RG")}, EMERGENCY, "modality is 'DX', not 'CR' or 'RG'"),
        ({"body_part": "chest"}, EMERGENCY, ""),
        ({"description": "*liegend*"}, EMERGENCY, ""),
        ({"description": "bedside"}, EMERGENCY, ""),
        ({"description": "*"}, WARD, "description is not known, not '*'"),
        ({"minimum_age_years": 54}, EMERGENCY, ""),
        ({"minimum_age_years": 54.5}, EMERGENCY, "the patient is 54, below 54.5"),
        ({"maximum_age_years": 54}, EMERGENCY, ""),
        ({"maximum_age_years": 16}, EMERGENCY, "the patient is 54, above 16"),
        ({"maximum_age_years": 16}, WARD, "the patient's age is not known"),
        ({"calling_ae_title": "ER1", "modality": "CR"}, EMERGENCY, "modality is 'DX', not 'CR'"),
    ],
)
def test_a_rule_says_what_does_not_hold(conditions: dict[str, object], image: Facts, why_not: str) -> None:
    assert StudyRule(name="a", **conditions).why_not([image]) == why_not


def test_all_conditions_must_hold_of_one_and_the_same_image() -> None:
    rule = StudyRule(name="a", calling_ae_title=("ER1",), modality=("CR",))
    assert rule.why_not([EMERGENCY, WARD]) == (
        "modality is 'DX', not 'CR'; calling_ae_title is 'WARD3', not 'ER1'"
    )
    assert StudyRule(name="a", calling_ae_title=("ER1",), modality=("DX",)).why_not([WARD, EMERGENCY]) == ""


FOUND = [
    Finding("Pneumothorax", 0.8),
    Finding("Pneumothorax", 0.3),
    Finding("Cardiomegaly", 0.9, reported=False),
]


@pytest.mark.parametrize(
    ("finding", "score", "why_not"),
    [
        ("pneumothorax", None, ""),
        ("Pneumothorax", 0.8, ""),
        ("Pneumothorax", 0.81, "Pneumothorax has a score of 0.80, below 0.81"),
        ("Cardiomegaly", None, "no Cardiomegaly is reported"),
        (["Edema", "Pneumothorax"], 0.5, ""),
    ],
)
def test_a_rule_for_results_looks_at_what_is_reported(
    finding: object, score: float | None, why_not: str
) -> None:
    rule = ResultRule(name="a", finding=finding, minimum_score=score, destinations=())
    assert rule.why_not_result([EMERGENCY], FOUND) == why_not


def test_a_backlog_stays_one_whatever_a_rule_says() -> None:
    stat = StudyRule(name="a", priority="stat")
    assert [stat.priority_of(came) for came in Priority] == [Priority.STAT, Priority.STAT, Priority.BACKLOG]
    assert [StudyRule(name="a").priority_of(came) for came in Priority] == list(Priority)


RULES = """
destinations = ["PACS@pacs:104"]
quiet_seconds = 5

[[study_rules]]
name = "children"
maximum_age_years = 16
analyse = false

[[study_rules]]
name = "emergency"
calling_ae_title = ["ER*", "SHOCKROOM"]
priority = "stat"

[[result_rules]]
name = "pneumothorax"
finding = "Pneumothorax"
minimum_score = 0.8
destinations = ["PACS@pacs:104", "ER@er:104=sr+sc"]
"""


def test_the_first_that_holds_wins_and_a_default_stands_last(tmp_path: Path) -> None:
    rules = _rules(tmp_path, RULES)
    child = Facts("ER1", age_years=3.0)
    assert rules.for_study([child]).name == "children" and not rules.for_study([child]).analyse
    assert rules.for_study([EMERGENCY]).name == "emergency"
    assert rules.for_study([WARD]).name == rules.for_study([]).name == "default"
    assert [str(to) for to in rules.for_result([WARD], FOUND).destinations] == [
        "PACS@pacs:104",
        "ER@er:104=sr+sc",
    ]
    assert [str(to) for to in rules.for_result([WARD], []).destinations] == ["PACS@pacs:104"]
    assert {str(to) for to in rules.destinations} == {"PACS@pacs:104", "ER@er:104=sr+sc"}


FORWARDS = """
forward_images_to = ["PACS@pacs:104", "ARCHIVE@archive:104"]

[[study_rules]]
name = "from the PACS"
calling_ae_title = "PACS_MOVE"
forward_images_to = []

[[study_rules]]
name = "research"
station_name = "LAB*"
forward_images_to = "RESEARCH@research:104"
analyse = false

[[study_rules]]
name = "emergency"
calling_ae_title = "ER*"
priority = "stat"
"""


def test_a_rule_s_list_of_where_images_go_stands_in_the_place_of_the_node_s(tmp_path: Path) -> None:
    rules = _rules(tmp_path, FORWARDS)
    forwards = {
        facts: (rule.name, [to.address for to in destinations])
        for facts in (Facts("PACS_MOVE"), Facts("ER1", station_name="lab 2"), EMERGENCY, WARD)
        for rule, destinations in [rules.for_image(facts)]
    }
    everywhere = ["PACS@pacs:104", "ARCHIVE@archive:104"]
    assert forwards == {
        Facts("PACS_MOVE"): ("from the PACS", []),
        Facts("ER1", station_name="lab 2"): ("research", ["RESEARCH@research:104"]),
        EMERGENCY: ("emergency", everywhere),
        WARD: ("default", everywhere),
    }
    assert rules.addresses == ("PACS@pacs:104", "ARCHIVE@archive:104", "RESEARCH@research:104")
    assert [rule.decision for rule in rules.study] == [
        "analysed; images to nobody",
        "not analysed; images to RESEARCH@research:104",
        "analysed, stat",
        "analysed; images to PACS@pacs:104, ARCHIVE@archive:104",
    ]
    assert "forward_images_to" not in rules.study[1].conditions
    only_images = rules.destination_called("RESEARCH@research:104")
    assert only_images is not None and only_images.results == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[[study_rules]]\nname='a'\nforward_images_to = ['A@a:1=sc']\n",
            "line 3, column 1: forward_images_to: A@a:1=sc: images alone are passed on, so no kinds of "
            "results are said",
        ),
        (
            "[[study_rules]]\nname='a'\nforward_images_to = ['A@a:1', 'A@a:1']\n",
            "line 3, column 1: forward_images_to: a destination is there twice",
        ),
        (
            "[[result_rules]]\nname='a'\ndestinations = []\nforward_images_to = []\n",
            "line 4, column 1: unknown key 'forward_images_to'",
        ),
        ("[[study_rules]]\nname = 'a'\nanalyze = false\n", "line 3, column 1: unknown key 'analyze'"),
        ("[[study_rules]]\n\n# no name\nmodality = 'DX'\n", "line 1, column 1: name is missing"),
        (
            "[[study_rules]]\nname='a'\n[[study_rules]]\nname='b'\n  priority = 'soon'\n",
            "line 5, column 3: priority: must be one of stat, routine, backlog",
        ),
        (
            "[[result_rules]]\nname='a'\ndestinations = [\n  'PACS@pacs:104',\n  'nowhere',\n]\n",
            "line 3, column 1: destinations: a destination is written AET@HOST:PORT, not 'nowhere'",
        ),
        (
            "[[result_rules]]\nname='a'\nfinding = 'Pneumotorax'\ndestinations = []\n",
            "line 3, column 1: finding: 'Pneumotorax' is no finding; did you mean 'Pneumothorax'?",
        ),
        (
            "[[result_rules]]\nname='a'\nminimum_score = 0.5\ndestinations = []\n",
            "line 1, column 1: result_rules: minimum_score needs a finding",
        ),
        (
            "[[study_rules]]\nname='a'\n[[study_rules]]\nname='a'\n",
            "line 4, column 1: the name 'a' is there twice",
        ),
        (
            "[[result_rules]]\nname='a'\ndestinations = []\nwebhooks = 'pager'\n",
            "line 4, column 1: there is no webhook 'pager'",
        ),
        (
            "[[study_rules]]\nname='default'\n",
            "line 2, column 1: the name 'default' is that of the rule which stands last by itself",
        ),
        (
            "[[study_rules]]\nname='a'\nanalyse = 'no'\n",
            "line 3, column 1: analyse: Input should be a valid boolean",
        ),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(tmp_path: Path, text: str, complaint: str) -> None:
    assert _complaint(tmp_path, text) == f"rules: FILE, {complaint}"


def test_broken_syntax_is_told_with_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"node\.toml: .*at line 2, column 6"):
        _rules(tmp_path, "[[study_rules]]\nname 'a'\n")


def test_a_rules_file_of_its_own_is_read_and_two_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[study_rules]]\nname='a'\nanalyse=false\n")
    rules = _rules(tmp_path, f"rules_file = '{tmp_path / 'rules.toml'}'\n")
    assert [rule.name for rule in rules.study] == ["a", "default"]
    with pytest.raises(SettingsError, match="has rules, and rules_file names another file"):
        _rules(tmp_path, f"rules_file = '{tmp_path / 'rules.toml'}'\n{RULES}")
    (tmp_path / "rules.toml").write_text("[[study_rule]]\nname='a'\n")
    with pytest.raises(SettingsError, match=r"rules\.toml, line 1, column 1: unknown key 'study_rule'"):
        _rules(tmp_path, f"rules_file = '{tmp_path / 'rules.toml'}'\n")


_KEYS = st.sampled_from(["name", "a", "b-c", "long_key"])
_VALUES = st.sampled_from(["1", "'x'", "[\n 1,\n\n 2 ]", '"""\n[[t]]\na = 1\n"""', "{ a = 1 }", "'#'"])


@given(
    st.lists(st.dictionaries(_KEYS, _VALUES, min_size=1), min_size=1, max_size=4),
    st.lists(st.sampled_from(["", "# a comment", "  "]), max_size=3),
    st.data(),
)
def test_any_key_of_any_table_is_found_where_it_was_written(
    tables: list[dict[str, str]], between: list[str], data: st.DataObject
) -> None:
    lines: list[str] = []
    places: dict[tuple[int, str], tuple[int, int]] = {}
    for number, table in enumerate(tables):
        lines += [*between, "[[t]]"]
        for indent, (key, value) in enumerate(table.items()):
            lines += between
            places[number, key] = len(lines) + 1, indent + 1
            lines += (" " * indent + f"{key} = {value}").split("\n")
    text = "\n".join(lines)
    assert len(tomllib.loads(text)["t"]) == len(tables)
    number, key = data.draw(st.sampled_from(sorted(places)))
    assert line_and_column(text, ("t", number, key)) == places[number, key]


def test_facts_come_back_from_the_records_as_they_were() -> None:
    header = make_radiograph(
        StationName="Er-1",
        StudyDescription="Thorax",
        SeriesDescription="",
        ProtocolName="Thorax",
        PatientAge="007Y",
        PatientBirthDate="",
        BodyPartExamined="CHEST\x00",
    )
    facts = Facts.of(header, "ER1", "LITEGPT")
    assert facts == Facts("ER1", "LITEGPT", "ER-1", str(header.Modality), "CHEST", ("THORAX",), 7.0)
    assert Facts.read(facts.kept(), "ER1") == facts
    assert Facts.read("", "ER1") == Facts("ER1")


def test_the_example_of_the_docs_is_in_order(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "rules.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    webhook = (
        '[webhooks.pager]\nurl = "https://pager.example/ai"\nsecret = "0123456789abcdef0123456789abcdef"\n'
    )
    rules = _rules(tmp_path, example + webhook)
    assert [rule.name for rule in rules.study] == ["children", "emergency", "moved by the PACS", "default"]
    assert [rule.name for rule in rules.result] == ["pneumothorax", "default"]
    keys = {*StudyRule.model_fields, *ResultRule.model_fields} - {"name"}
    assert {key for key in keys if f"`{key}`" not in page} == set()
