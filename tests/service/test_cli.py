"""The commands as a person types them: what they print, their exit codes, and one line for what is wrong."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import read_identity
from service.cli import main
from service.records import analyses, conclusions, deliveries
from service.records.claims import Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.retry import Retry
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.ports import free_port
from tests.service.conftest import sent_to
from tests.service.test_migrations import NEWEST
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


def _claim(small: SmallNode) -> list[Claim]:
    model = read_identity(small.settings.model)
    return analyses.claim(
        small.records,
        model_id=model.id,
        model_version=model.version,
        limit=1,
        lease=timedelta(minutes=1),
        retry=Retry.of(small.settings),
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


def test_the_version_is_the_one_of_the_project(tmp_path: Path) -> None:
    said = _node("--version", folder=tmp_path)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert (said.stdout, said.returncode) == (f"litegpt-node {project['version']}\n", 0)


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


def test_a_finding_below_its_threshold_is_shown_and_marked(tmp_path: Path) -> None:
    small = small_node(tmp_path / "node-data")
    small.take(make_radiograph(AccessionNumber="A-1"))
    (claim,) = _claim(small)
    found = (
        Finding("ILD", 0.7, Box(1, 2, 30, 40), 0.01),
        Finding("Edema", 0.2, Box(5, 6, 7, 8), 0.02, reported=False),
        Finding("Pneumonia", 0.1, reported=False),
    )
    conclusions.finish(
        small.records,
        claim,
        [ImageOutcome(claim.images[0].instance_id, found)],
        [],
        sent_to(),
    )
    small.records.close()
    shown = [line.strip() for line in _node("show", "A-1", folder=tmp_path).stdout.splitlines()]
    at = shown.index("ILD 0.70 [1 2 30 40]")
    assert shown[at + 1 : at + 3] == [
        "Edema 0.20 [5 6 7 8] (below threshold)",
        "Pneumonia 0.10 (below threshold)",
    ]
    (image,) = json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)["images"]
    assert [(one["reported"], one["box_score"]) for one in image["findings"]] == [
        (True, 0.01),
        (False, 0.02),
        (False, None),
    ]
    (line,) = [line for line in _node("studies", folder=tmp_path).stdout.splitlines() if " A-1 " in line]
    assert line.split()[-1] == "1"  # findings with boxes that are reported


def test_what_came_over_the_network_is_never_markup(tmp_path: Path) -> None:
    folder = tmp_path / "node[/data]"
    small = small_node(folder, ae_title="US[/b]")
    image = make_radiograph(AccessionNumber="A[/1] :warning:", BodyPartExamined="HAND[/L]")
    small.take(image)
    small.records.close()
    listed = _node("studies", "--data-dir", folder, folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "A[/1] :warning:" in listed.stdout
    shown = _node("show", str(image.StudyInstanceUID), "--data-dir", folder, folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "A[/1] :warning:" in shown.stdout and "HAND[/L]" in shown.stdout
    checked = _node("check", "--data-dir", folder, folder=tmp_path, LITEGPT_AE_TITLE="US[/b]")
    assert "US[/b]" in checked.stdout and "node[/data]" in checked.stdout, checked.stderr


def test_refused_results_are_sent_again_on_an_admins_word(tmp_path: Path) -> None:
    small = small_node(tmp_path / "node-data", destinations=["PACS@127.0.0.1:1"])
    small.take(make_radiograph(AccessionNumber="A-1"))
    (claim,) = _claim(small)
    result = WrittenResult("sr", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.1", "1", "results/1", "0" * 64)
    outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
    conclusions.finish(small.records, claim, outcomes, [result], sent_to(*small.settings.destinations))
    (sending,) = deliveries.claim(
        small.records, small.settings.destinations[0], limit=9, lease=timedelta(minutes=1)
    )
    deliveries.refused(small.records, sending, "takes no reports")
    small.records.close()

    done = _node("resend", "A-1", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "resend: 1 due again\n")
    (delivery,) = json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)["deliveries"]
    assert (delivery["state"], delivery["error"]) == ("due", "takes no reports")
    (attempt,) = delivery["attempts"]
    assert (attempt["attempt"], attempt["outcome"], attempt["said"]) == (1, "refused", "takes no reports")
    shown = _node("show", "A-1", folder=tmp_path).stdout
    assert re.search(r"attempt 1  \d{4}-\S+ \S+ UTC  refused  takes no reports  by \S+/\d+", shown), shown
    assert _node("resend", "A-1", folder=tmp_path).stdout == "resend: 1 due already\n"


def test_a_study_is_completed_by_force(tmp_path: Path) -> None:
    small = small_node(tmp_path / "node-data", quiet_seconds=500)
    small.take(make_radiograph(AccessionNumber="A-1"))
    small.records.close()
    assert json.loads(_node("show", "A-1", "--json", folder=tmp_path).stdout)["outcome"] == "receiving"
    assert _node("force", "A-1", folder=tmp_path).stdout == "force: 1 complete\n"
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
    first = _node("migrate", folder=tmp_path).stdout
    assert first == f"the database went from empty to {NEWEST}\n"
    assert _node("migrate", folder=tmp_path).stdout == f"the database is at {NEWEST} already\n"


@pytest.mark.parametrize("command", ["migrate", "up", "check"])
def test_a_database_of_a_newer_version_is_said(command: str, node: SmallNode, tmp_path: Path) -> None:
    with node.records.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    node.records.close()
    done = _node(command, folder=tmp_path, LITEGPT_DICOM_PORT=str(free_port()))
    said = done.stdout if command == "check" else done.stderr
    assert "the database is of a newer version of the node (schema 9999) than this one" in said
    assert done.returncode == (1 if command == "check" else 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("below", ["", "/node"])
def test_a_data_folder_that_is_or_lies_under_a_file_is_said(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("migrate", "up", "studies"):
        done = _node(command, "--data-dir", f"file{below}", folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("litegpt-node: ") and done.stderr.endswith("file is not a folder\n")
        assert done.stderr.count("\n") == 1
    done = _node("check", "--data-dir", f"file{below}", folder=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("no ")]
    assert "archive" in line and "is not a folder" in line
    assert done.stderr == ""


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    done = _node("migrate", "--data-dir", tmp_path / "node", folder=Path("/"))
    tmp_path.chmod(0o700)
    assert (done.returncode, done.stderr) == (2, f"litegpt-node: no permission for {tmp_path / 'node'}\n")


_STOPS_ON_SIGNALS = (
    "import signal, threading, time; from service.cli.part import stop_on_signals\n"
    "stop = threading.Event(); stop_on_signals(stop)\n"
)


@contextmanager
def _program(text: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_ctrl_c_does_not_wait_for_the_first() -> None:
    program = "print('ready', flush=True); stop.wait(); print('stopping', flush=True); time.sleep(60)"
    with _program(_STOPS_ON_SIGNALS + program) as process:
        for said in ("ready", "stopping"):
            assert _says(process) == said
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


def test_a_signal_that_comes_to_another_thread_is_heard() -> None:
    """The kernel gives it to any: to one that does not sleep, where the main thread is traced."""
    program = (
        "def hear():\n"
        "    while not stop._cond._waiters: time.sleep(0.001)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM); time.sleep(60)\n"
        "threading.Thread(target=hear, daemon=True).start()\n"
        "stop.wait()"
    )
    with _program(_STOPS_ON_SIGNALS + program) as process:
        assert process.wait(10) == 0


def test_a_signal_is_heard_at_any_moment_of_a_wait() -> None:
    """Among them those in which the main thread holds the lock of what it waits for."""
    program = "print('ready', flush=True)\nwhile not stop.wait(0): pass"
    for _ in range(4):
        with _program(_STOPS_ON_SIGNALS + program) as process:
            assert _says(process) == "ready"
            process.terminate()
            assert process.wait(10) == 0


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
        (["resend", "A-1"], "there is no node in node-data"),
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


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_broker_that_is_no_redis_is_refused(command: str, tmp_path: Path) -> None:
    done = _node(command, folder=tmp_path, LITEGPT_BROKER_URL="foo://x")
    line = "litegpt-node: broker_url: must be redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER\n"
    assert (done.returncode, done.stderr) == (2, line)


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


@pytest.mark.parametrize("room", main._ROOMS)
def test_a_module_of_commands_has_those_that_the_table_says(room: str) -> None:
    from typer.main import get_group

    app = typer.Typer()
    importlib.import_module(f"service.cli.{room}").register(app)
    assert tuple(get_group(app).commands) == main._ROOMS[room]


def test_a_command_alone_is_the_same_as_among_all() -> None:
    for asked in (["listen", "--help"], ["studies", "--help"], ["user", "--help"]):
        alone, among = (
            CliRunner().invoke(main.application(name), asked, env={"COLUMNS": "100"})
            for name in (asked[0], None)
        )
        assert (alone.exit_code, alone.output) == (among.exit_code, among.output) and "Usage" in alone.output


def test_the_listener_s_command_does_without_what_only_others_need() -> None:
    program = "import sys; import service.cli.listening; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"alembic", "celery", "fastapi", "torch", "redis"} & set(loaded.stdout.split())
