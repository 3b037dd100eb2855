"""``litegpt-node models`` as a person types it: what it prints, and one line for what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from litegpt.identity import read_identity
from service.checks import Line, line, model
from service.cli.main import application, main
from service.records.tables import Activation, Model
from tests.images import make_radiograph
from tests.models import model_copy
from tests.worker.conftest import SmallNode, small_node

SHIPPED = read_identity("phantom")


@pytest.fixture
def node(tmp_path: Path) -> SmallNode:
    """A node with one study that nobody has read."""
    small = small_node(tmp_path / "node-data", destinations=["PACS@127.0.0.1:1"])
    small.take(make_radiograph())
    model_copy(tmp_path / "second", "2")
    return small


def _say(node: SmallNode, *arguments: str) -> str:
    done = CliRunner().invoke(
        application(),
        [*arguments, "--data-dir", str(node.settings.data_dir)],
        env={"COLUMNS": "200", "LITEGPT_DESTINATIONS": "PACS@127.0.0.1:1"},
    )
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def _json(node: SmallNode, *arguments: str) -> Any:
    return json.loads(_say(node, *arguments, "--json"))


def _states(node: SmallNode) -> dict[str, str]:
    return {one["version"]: one["state"] for one in _json(node, "models", "list")}


def test_from_the_first_model_to_the_third(node: SmallNode, tmp_path: Path) -> None:
    listed = _say(node, "models", "list")
    assert f"litegpt-phantom {SHIPPED.version}" in listed and "of the settings" in listed
    assert "mean nothing" in listed
    added = _say(node, "models", "add", str(tmp_path / "second"))
    assert added.startswith("litegpt-phantom 2: added; `models activate` lets it read what comes")
    assert "mean nothing" in added
    assert _states(node) == {SHIPPED.version: "active", "2": "available"}
    shadow = _json(node, "models", "shadow", "2", "--to", "TEST@127.0.0.1:2")
    assert (shadow["state"], shadow["shadow_to"]) == ("shadow", "TEST@127.0.0.1:2")
    assert "results to TEST@127.0.0.1:2" in _say(node, "models", "list")
    _say(node, "models", "shadow", "2", "--stop")
    said = _json(node, "models", "activate", "litegpt-phantom 2")
    assert said["outcome"] == f"active, in the place of litegpt-phantom {SHIPPED.version}"
    assert said["folder"] == str(tmp_path / "second") and said["activated_at"]
    assert _json(node, "models", "rollback")["version"] == SHIPPED.version
    _say(node, "models", "retire", "2")
    assert _states(node) == {SHIPPED.version: "active", "2": "retired"}


def test_another_model_is_asked_by_its_name(node: SmallNode, tmp_path: Path) -> None:
    _say(node, "models", "add", str(tmp_path / "second"))
    rerun = ("rerun", "--all", "--model")
    assert _json(node, *rerun, "2", "--dry-run")["outcome"] == {"queued": 1}
    assert _json(node, *rerun, SHIPPED.version)["outcome"] == {"queued already": 1}
    assert _json(node, *rerun, "2")["outcome"] == {"queued": 1}
    assert _json(node, *rerun, "litegpt-phantom 2")["outcome"] == {"queued already": 1}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["models", "add", "nowhere"], "nowhere is not a model folder: it has no config.json"),
        (["models", "activate", "9"], "no model is called '9'; there are: litegpt-phantom"),
        (["models", "rollback"], "no model was active before the present one"),
        (["models", "shadow", "2", "--to", "TEST"], "a destination is written AET@HOST:PORT"),
        (["models", "shadow", "2", "--to", "PACS@127.0.0.1:1"], "is a destination of the node"),
        (["models", "shadow", "2", "--stop", "--to", "A@b:1"], "--stop and --to do not go together"),
        (["rerun", "--all", "--model", "9"], "no model is called '9'"),
        (["rerun", "--all", "--model", "3"], "litegpt-phantom 3 is retired"),
    ],
)
def test_what_is_wrong_is_one_line(
    node: SmallNode,
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _say(node, "models", "add", str(tmp_path / "second"))
    _say(node, "models", "add", str(model_copy(tmp_path / "third", "3")))
    _say(node, "models", "retire", "3")
    monkeypatch.setenv("LITEGPT_DESTINATIONS", "PACS@127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["litegpt-node", *arguments, "--data-dir", str(node.settings.data_dir)])
    with pytest.raises(SystemExit) as ended:
        main()
    (said,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert said.startswith("litegpt-node: ") and complaint in said


def test_check_looks_at_the_models_that_are_used(node: SmallNode, tmp_path: Path) -> None:
    def look() -> Line:
        return line("model", lambda: model(node.settings))

    assert look() == Line("model", f"litegpt-phantom {SHIPPED.version}, a demonstration")
    _say(node, "models", "add", str(tmp_path / "second"))
    _say(node, "models", "shadow", "2")
    assert look().fact == (
        f"litegpt-phantom {SHIPPED.version}, a demonstration; litegpt-phantom 2, a demonstration, the shadow"
    )
    (tmp_path / "second").rename(tmp_path / "away")
    assert "second is not a model folder" in str(look().complaint)
    model_copy(tmp_path / "second", "3")
    assert "holds litegpt-phantom 3 now, not litegpt-phantom 2" in str(look().complaint)
    # Records of a schema before this one: the look at them complains, this one looks at the settings' model.
    for table in (Activation, Model):
        table.__table__.drop(node.records.engine)  # type: ignore[attr-defined]
    assert look().complaint is None
