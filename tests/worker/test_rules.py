"""Rules at work: a study's way by them through completion, analysis and delivery, and a file that changes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import select

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import read_identity
from service import checks
from service.actions.action import Course
from service.actions.analysing import Rerun
from service.completion import Completion
from service.errors import SettingsError
from service.models.changes import Admin
from service.records.selection import Selection
from service.records.states import Priority
from service.records.tables import Analysis, WebhookCall
from service.rules.explaining import explain
from service.rules.rulebook import Rulebook, Rules
from service.settings import load_settings
from service.sweeper import Sweeper
from tests.images import make_radiograph
from tests.models import model_copy
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import storescu
from tests.worker.conftest import SmallNode, small_node
from tests.worker.results.random_studies import Image, SayingEngine
from worker.analysis import Analyst

PACS, EMERGENCY = "PACS@127.0.0.1:1", "ER@127.0.0.1:2"

RULES = f"""
destinations = ["{PACS}"]

[[study_rules]]
name = "children"
maximum_age_years = 25
analyse = false

[[study_rules]]
name = "emergency"
station_name = "ER*"
priority = "stat"

[[result_rules]]
name = "pneumothorax"
finding = "Pneumothorax"
minimum_score = 0.8
destinations = ["{PACS}", "{EMERGENCY}=sr+sc"]
"""


RESEARCH = """
[[study_rules]]
name = "research"
called_ae_title = "RESEARCH"
calling_ae_title = "MOD*"
analyse = false
"""


def _node(folder: Path, rules: str = RULES) -> SmallNode:
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(rules)
    os.environ["LITEGPT_CONFIG"] = str(folder / "node.toml")
    try:
        return small_node(folder / "data")
    finally:
        del os.environ["LITEGPT_CONFIG"]


def _read(node: SmallNode, dataset: Dataset, *found: Finding) -> None:
    """Has a study received and read by an engine that says what was found."""
    node.take(dataset)
    image = Image(dataset)
    image.findings += found
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    engine = SayingEngine({str(dataset.SOPInstanceUID): image})
    analyst.engines.load = lambda _: engine
    analyst.drain()


def _analysis(node: SmallNode, dataset: Dataset) -> Analysis:
    with node.records.reading() as session:
        view = node.show(str(dataset.StudyInstanceUID))
        return session.scalars(select(Analysis).where(Analysis.id == view.analysis_id)).one()


def _sent(node: SmallNode, dataset: Dataset) -> set[tuple[str, str]]:
    view = node.show(str(dataset.StudyInstanceUID))
    return {(delivery.destination, delivery.sop_class) for delivery in view.deliveries}


def test_what_was_found_decides_where_results_go(tmp_path: Path) -> None:
    node = _node(tmp_path)
    box = Box(1, 2, 30, 40)
    sure, unsure = make_radiograph(StationName="ER-2"), make_radiograph()
    _read(node, sure, Finding("Pneumothorax", 0.9, box))
    _read(node, unsure, Finding("Pneumothorax", 0.7, box), Finding("Edema", 0.95, box))
    report, picture = "Comprehensive 3D SR", "Secondary Capture Image"
    assert _sent(node, sure) == {(PACS, report), (EMERGENCY, report), (EMERGENCY, picture)}
    assert _sent(node, unsure) == {(PACS, report)}
    went_by = [(one.rule, one.result_rule) for one in (_analysis(node, sure), _analysis(node, unsure))]
    assert went_by == [("emergency", "pneumothorax"), ("default", "default")]
    assert _analysis(node, sure).priority == Priority.STAT
    assert _analysis(node, unsure).priority == Priority.ROUTINE


def test_a_study_that_a_rule_leaves_out_is_at_its_end_and_read_once_the_rule_is_gone(tmp_path: Path) -> None:
    node = _node(tmp_path)
    child = make_radiograph(PatientAge="020Y", PatientBirthDate="")
    _read(node, child)
    left_out = _analysis(node, child)
    assert (left_out.state, left_out.error) == ("not-applicable", "the rule 'children' leaves it out")

    def rerun() -> dict[str, int]:
        completion = Completion.of(node.settings, read_identity(node.settings.model))
        uids = (str(child.StudyInstanceUID),)
        return dict(Course(node.records, "a test").run(Rerun(completion), Selection(studies=uids)))

    assert rerun() == {"left out by the rule 'children'": 1}
    (tmp_path / "node.toml").write_text(f'destinations = ["{PACS}"]\n')
    assert rerun() == {"queued": 1}
    assert _analysis(node, child).state == "queued"


def test_a_changed_file_holds_at_once_and_a_wrong_one_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = _node(tmp_path)
    rulebook, file = Rulebook(node.settings), tmp_path / "node.toml"
    assert len(rulebook.rules().study) == 3
    with caplog.at_level(logging.INFO):
        file.write_text("[[study_rules]]\nname = 'a'\n\npriorty = 'stat'\n")
        assert len(rulebook.rules().study) == 3
        assert rulebook.complaint() == f"rules: {file}, line 4, column 1: unknown key 'priorty'"
        assert caplog.messages == [f"the rules as they were stay in force: {rulebook.complaint()}"]
        file.unlink()
        assert len(rulebook.rules().study) == 3
        assert "No such file" in rulebook.complaint()
        file.write_text("[[study_rules]]\nname = 'a'\npriority = 'stat'\n")
        assert [rule.name for rule in rulebook.rules().study] == ["a", "default"]
        assert not rulebook.complaint()
        assert caplog.messages[-1] == "rules read anew: 1 for studies, 0 for results"


def test_the_sweeper_goes_on_by_the_old_rules_while_the_file_is_wrong(tmp_path: Path) -> None:
    node = _node(tmp_path)
    sweeper = Sweeper(node.settings)
    (tmp_path / "node.toml").write_text("[[study_rules]]\nname = 'a'\npriorty = 'stat'\n")
    child = make_radiograph(PatientAge="020Y", PatientBirthDate="")
    node.receive(child)
    sweeper.sweep()
    assert _analysis(node, child).error == "the rule 'children' leaves it out"


def test_a_study_is_explained_rule_by_rule(tmp_path: Path) -> None:
    node = _node(tmp_path)
    image = make_radiograph(StationName="ER-2", PatientAge="050Y", PatientBirthDate="")
    _read(node, image, Finding("Pneumothorax", 0.5, Box(1, 2, 30, 40)))
    with node.records.reading() as session:
        told = explain(session, Rules.read(node.settings), str(image.StudyInstanceUID))
    assert [(one.rule, one.why_not) for one in told.study_rules] == [
        ("children", "the patient is 50, above 25"),
        ("emergency", ""),
    ]
    assert [(one.rule, one.why_not) for one in told.result_rules] == [
        ("pneumothorax", "Pneumothorax has a score of 0.50, below 0.8"),
        ("default", ""),
    ]
    assert told.went_by == ("emergency", "default")
    assert json.loads(json.dumps(told.as_json()))["images"][0]["facts"]["station_name"] == "ER-2"


def test_settings_that_go_to_other_processes_keep_the_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = _node(tmp_path)
    for name, value in node.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Rules.read(load_settings()) == Rules.read(node.settings)


def test_a_running_node_goes_by_rules_and_by_new_ones_without_a_restart(tmp_path: Path) -> None:
    """Over the wire: who called whom decides; the file is changed while the node runs."""
    (tmp_path / "rules.toml").write_text(RESEARCH)
    with node_up(tmp_path, rules_file=str(tmp_path / "rules.toml")) as node:
        first, second = make_radiograph(), make_radiograph()
        assert _stored(tmp_path, node.port, first, called="RESEARCH")
        (view,) = node.wait_for({str(first.StudyInstanceUID)}, "not-applicable")
        assert view.error == "the rule 'research' leaves it out"
        (tmp_path / "rules.toml").write_text("")
        assert _stored(tmp_path, node.port, second, called="RESEARCH")
        node.process.wait_until(
            lambda: (view := node.studies().get(str(second.StudyInstanceUID))) and view.analysis_id,
            60,
            "an analysis of the second study",
        )
        assert node.studies()[str(second.StudyInstanceUID)].analysis_state != "not-applicable"
        told = _litegpt_node("explain", str(first.StudyInstanceUID), folder=tmp_path, node=node)
        assert "went by research" in told and "from MOD1, to RESEARCH" in told, told


def _stored(folder: Path, port: int, dataset: Dataset, *, called: str) -> bool:
    path = folder / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return storescu(port, path, calling="MOD1", called=called).succeeded


def _litegpt_node(*arguments: str, folder: Path, node: Node) -> str:
    command = [BIN / "litegpt-node", *arguments, "--data-dir", str(node.data_dir)]
    environment = {**os.environ, "LITEGPT_RULES_FILE": str(folder / "rules.toml"), "COLUMNS": "200"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, check=True
    ).stdout


def test_a_rule_names_the_model_that_reads(tmp_path: Path) -> None:
    rules = "[[study_rules]]\nname = 'trial'\nstation_name = 'TRIAL'\nmodel = '9.9.9'\n"
    node = _node(tmp_path, rules)
    other = model_copy(tmp_path / "other", "9.9.9")
    with node.records.writing() as session:
        Admin(session, node.settings, "a test").add(str(other))
    trial, usual = make_radiograph(StationName="TRIAL"), make_radiograph()
    node.take(trial, usual)
    versions = [_analysis(node, dataset).model_version for dataset in (trial, usual)]
    active = read_identity(node.settings.model).version
    assert versions == ["9.9.9", active]
    assert [_analysis(node, dataset).purpose for dataset in (trial, usual)] == ["named", "regular"]
    Analyst(node.settings, node.records, node.archive, node.bell).drain()
    assert [_analysis(node, dataset).state for dataset in (trial, usual)] == ["done", "done"]
    assert checks.rules(node.settings).startswith("1 for studies")
    (tmp_path / "node.toml").write_text(rules.replace("9.9.9", "9.9.8"))
    with pytest.raises(SettingsError, match=r"no model is called '9\.9\.8'"):
        checks.rules(node.settings)


def test_a_rule_has_a_webhook_told_once(tmp_path: Path) -> None:
    rules = f"""
[webhooks.pager]
url = "https://pager.example/ai"
secret = "0123456789abcdef0123456789abcdef"

[[result_rules]]
name = "pneumothorax"
finding = "Pneumothorax"
destinations = ["{PACS}"]
webhooks = ["pager"]
"""
    node = _node(tmp_path, rules)
    found, nothing = make_radiograph(), make_radiograph()
    _read(node, found, Finding("Pneumothorax", 0.9, Box(1, 2, 30, 40)))
    _read(node, nothing)
    with node.records.reading() as session:
        calls = session.execute(select(WebhookCall.analysis_id, WebhookCall.webhook, WebhookCall.state)).all()
    assert [tuple(call) for call in calls] == [(_analysis(node, found).id, "pager", "due")]
