"""The commands as a person types them: what they print, their exit codes, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.ports import free_port
from tests.worker.conftest import SmallNode, small_node


def _node(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def node(tmp_path: Path) -> SmallNode:
    """A node with one study to analyse and one with nothing to, not yet analysed."""
    small = small_node(tmp_path / "node-data")
    small.take(
        make_radiograph(AccessionNumber="A-1", PatientName="Verysecret^Name"),
        make_radiograph(AccessionNumber="A-2", sop_class=DX_FOR_PROCESSING),
    )
    small.records.close()
    small.bell.close()
    return small


def test_studies_are_listed_with_where_they_stand(node: SmallNode, tmp_path: Path) -> None:
    done = _node("studies", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines()[1:] if " A-" in line}
    assert "queued" in lines["A-1"]
    assert "not-applicable" in lines["A-2"] and "for processing" in lines["A-2"]
    assert "demonstration model" in done.stdout
    assert "Verysecret" not in done.stdout


def test_studies_are_json_for_a_script(node: SmallNode, tmp_path: Path) -> None:
    studies = json.loads(_node("studies", "--json", folder=tmp_path).stdout)
    by_accession = {study["accession_number"]: study for study in studies}
    assert by_accession["A-1"]["outcome"] == "queued"
    assert by_accession["A-1"]["demonstration"] is True
    assert by_accession["A-2"]["images"][0]["reason"] == "for processing, not for presentation"


def test_a_study_is_shown_by_accession_number_by_uid_and_by_its_beginning(
    node: SmallNode, tmp_path: Path
) -> None:
    by_accession = json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)
    uid = by_accession["study_instance_uid"]
    assert json.loads(_node("show", uid, "--json", folder=tmp_path).stdout) == by_accession
    assert uid in _node("show", uid[:-1], folder=tmp_path).stdout
    nothing = _node("show", "A-9", folder=tmp_path)
    assert (nothing.returncode, nothing.stderr) == (1, "litegpt-node: no study is called A-9\n")
    many = _node("show", "1.2.826", folder=tmp_path)
    assert (many.returncode, many.stderr) == (1, "litegpt-node: more than one study is called 1.2.826\n")


def test_a_study_is_completed_by_force(tmp_path: Path) -> None:
    small = small_node(tmp_path / "node-data", quiet_seconds=500)
    small.take(make_radiograph(AccessionNumber="A-1"))
    small.records.close()
    assert json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)["outcome"] == "receiving"
    assert _node("force", "A-1", folder=tmp_path).stdout.startswith("complete: ")
    assert json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)["outcome"] == "queued"


def test_check_says_what_is_in_order_and_changes_nothing(tmp_path: Path) -> None:
    done = _node("check", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "does not exist yet; `up` makes it" in done.stdout
    assert "litegpt-phantom" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_check_names_everything_that_is_wrong(node: SmallNode, tmp_path: Path) -> None:
    done = _node(
        *("check", "--destination", f"NOBODY@127.0.0.1:{free_port()}"),
        folder=tmp_path,
        LITEGPT_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0",
        LITEGPT_DATABASE_URL=f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing",
        LITEGPT_MODEL=str(tmp_path),
    )
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("no ")]
    assert len(wrong) == 4, done.stdout
    for word in ("is not a model folder", "the database does not answer", "the broker does not", "NOBODY@"):
        assert any(word in line for line in wrong), (word, wrong)
    assert "Traceback" not in done.stderr


def test_check_echoes_a_destination(tmp_path: Path) -> None:
    from tests.peers.dcmtk import storescp

    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        done = _node("check", "--destination", pacs.destination, folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "answers C-ECHO" in done.stdout


def test_migrate_says_from_where_to_where(tmp_path: Path) -> None:
    assert _node("migrate", folder=tmp_path).stdout == "the database went from empty to 0001\n"
    assert _node("migrate", folder=tmp_path).stdout == "the database is at 0001 already\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["up", "--destination", "PACS"], "destinations: a destination is written AET@HOST:PORT, not 'PACS'"),
        (["up", "--ae-title", "MUCH TOO LONG A TITLE"], "ae_title: an AE title has 1 to 16 plain characters"),
        (["up", "--quiet-seconds", "-1"], "quiet_seconds: Input should be greater than or equal to 0"),
        (["up", "--config", "nowhere.toml"], "no such settings file: nowhere.toml"),
        (["studies", "--data-dir", "nowhere"], "there is no node in nowhere"),
        (["listen"], "the database has no tables yet: run `litegpt-node migrate`"),
        (["sweep"], "the database has no tables yet: run `litegpt-node migrate`"),
        (["demo", "--radiographs", "nowhere"], "no such file or folder: nowhere"),
        (["demo", "--radiographs", "."], "no DICOM files in ."),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    done = _node(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"litegpt-node: {complaint}")
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("colour = 'blue'\n")
    done = _node("up", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "litegpt-node: unknown setting 'colour'\n")


def test_a_missing_database_server_is_one_line(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    done = _node("up", folder=tmp_path, LITEGPT_DATABASE_URL=url)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("litegpt-node: the database does not answer: connection")


def test_health_fails_where_nothing_runs(tmp_path: Path) -> None:
    done = _node("health", "listener", folder=tmp_path, LITEGPT_DICOM_PORT=str(free_port()))
    assert done.returncode == 1 and "does not answer" in done.stderr
    assert _node("health", "sweeper", folder=tmp_path).returncode == 1


def test_every_command_explains_itself() -> None:
    from typer.main import get_command

    commands = get_command(main.application()).commands  # type: ignore[attr-defined]
    assert {"up", "demo", "migrate", "check", "studies", "show"} <= set(commands)
    for name, command in commands.items():
        assert command.help, name
