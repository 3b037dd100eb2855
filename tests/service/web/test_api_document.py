"""docs/api.md: its curl commands do what they say, and its tables are the contract's."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.records.states import Role
from service.settings import load_settings
from service.web.app import create_app
from service.web.problems import API
from tests.presence import program
from tests.service.web.api_site import ApiSite, api_site, contract_of, told

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^curl (?:.*\\\n)*.*$", BLOCKS, re.MULTILINE)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    with api_site(tmp_path_factory.mktemp("api"), show_patients="true") as running:
        yield running


def test_every_command_is_looked_at() -> None:
    assert len(COMMANDS) == BLOCKS.count("curl ") == 13


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split("/api/v1/")[1].split('"')[0])
def test_a_command_does_what_it_says(api: ApiSite, command: str, tmp_path: Path) -> None:
    program("curl", package="curl")
    study = told(api.ask(f"/studies/{api.read}"))
    known = {
        "NODE": api.url.removesuffix(API),
        "TOKEN": api.tokens[Role.ADMIN],
        "STUDY": api.read,
        "IMAGE": str(study["images"][0]["id"]),
        "RESULT": str(study["analyses"][0]["results"][0]["id"]),
        "JOB": str(api.job),
    }
    ended = subprocess.run(
        ["bash", "-euc", command],
        env={**os.environ, **known},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = re.search(r"-o (\S+)", command)
    if written:
        begins = {"picture.png": b"\x89PNG", "report.dcm": b"report of", "image.dcm": b"\0" * 128 + b"DICM"}[
            written[1]
        ]
        assert (tmp_path / written[1]).read_bytes().startswith(begins)
    else:
        assert json.loads(ended.stdout)


def test_the_table_of_addresses_is_that_of_the_contract() -> None:
    rows = re.findall(r"^\| (`/.*?) \| (viewer|operator|admin) \|", DOCUMENT, re.MULTILINE)
    named = {path for row, _ in rows for path in re.findall(r"`(.*?)`", row)}
    contract = contract_of(create_app(load_settings()))
    assert named == {path for path, of_path in contract["paths"].items() if "get" in of_path}
    for path, of_path in contract["paths"].items():
        if "post" in of_path:
            assert f"`{path.rpartition('/')[2]}`" in DOCUMENT


def test_the_table_of_errors_is_that_of_the_contract() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)
    named = {status for row in rows for status in row.split(", ")}
    contract = contract_of(create_app(load_settings()))
    answers = {
        status
        for of_path in contract["paths"].values()
        for operation in of_path.values()
        for status in operation["responses"]
    }
    assert named == {status for status in answers if status >= "400"}


@pytest.mark.parametrize("role", list(Role))
def test_the_roles_of_the_table_suffice_and_are_needed(api: ApiSite, role: Role) -> None:
    study = told(api.ask(f"/studies/{api.read}"))
    known = {
        "uid": api.read,
        "image_id": study["images"][0]["id"],
        "result_id": study["analyses"][0]["results"][0]["id"],
        "job_id": api.job,
        "work_id": "x",
        "count_id": "x",
    }
    for row, needed in re.findall(r"^\| (`/.*?) \| (viewer|operator|admin) \|", DOCUMENT, re.MULTILINE):
        for path in re.findall(r"`(.*?)`", row):
            answer = api.ask(path.format(**known), role)
            assert (answer.status == 403) == (not role.includes(Role(needed))), (role, path, answer.status)
