"""What the documents promise exists: commands, make targets, settings, files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAMS = ("litegpt-node", "litegpt-train", "litegpt")


def _code(document: Path) -> str:
    """What a document shows as code: fenced and indented blocks, and words in backquotes."""
    text = document.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^(?: {4}|\t)(.+)$", text, re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([*fenced, *indented, *inline])


def _commands() -> list[str]:
    """``program command`` for each that a document shows."""
    found = set()
    for document in DOCUMENTS:
        for program, command in re.findall(
            rf"^(?:\.venv/bin/)?({'|'.join(PROGRAMS)}) ([a-z][a-z-]+)\b", _unindented(document), re.MULTILINE
        ):
            found.add(f"{program} {command}")
    return sorted(found)


def _unindented(document: Path) -> str:
    return "\n".join(line.strip() for line in _code(document).splitlines())


@pytest.mark.parametrize("shown", _commands())
def test_a_command_that_is_shown_exists(shown: str) -> None:
    program, command = shown.split()
    ended = subprocess.run(
        [Path(sys.executable).with_name(program), command, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert ended.returncode == 0, ended.stderr
    for option in _options_shown(shown):
        assert option in ended.stdout, f"{shown} has no {option}"


def _options_shown(shown: str) -> set[str]:
    options = set()
    for document in DOCUMENTS:
        for line in _unindented(document).splitlines():
            if found := re.search(rf"{shown}(?![\w-])(.*)", line):
                options |= set(re.findall(r"(?<!\S)--[a-z][a-z-]+", found[1]))
    return options


def test_the_commands_of_the_node_are_all_documented() -> None:
    ended = subprocess.run(
        [Path(sys.executable).with_name("litegpt-node"), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    commands = set(re.findall(r"^[│|] ([a-z][a-z-]+) {2,}\S", ended.stdout, re.MULTILINE))
    assert "up" in commands, ended.stdout
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    assert sorted(name for name in commands if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)) == []


def test_make_targets_that_are_shown_exist() -> None:
    shown = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"^make ([a-z-]+)", _unindented(document), re.MULTILINE)
    }
    assert {"demo", "test", "up"} <= shown
    for target in shown:
        ended = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr


def test_make_variables_that_are_shown_are_read() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        for line in re.findall(r"^make [a-z]+ (.*)$", _unindented(document), re.MULTILINE):
            for variable in re.findall(r"\b([A-Z_]+)=", line):
                assert re.search(rf"\$\({variable}\)", makefile), variable


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    checked = subprocess.run([sys.executable, ROOT / "tools" / "settings_table.py", "--check"], cwd=ROOT)
    assert checked.returncode == 0, "run python tools/settings_table.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_of_a_document_exist(document: Path) -> None:
    targets = re.findall(r"(?:\]\(|src=\")([^)#\s\"]+)(?:#[^)]*)?[)\"]", document.read_text())
    missing = [
        target for target in targets if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_a_document_names_exist(document: Path) -> None:
    for file, name in re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", document.read_text()):
        texts = [path.read_text() for path in (ROOT / "tests").rglob(file)]
        assert any(re.search(rf"def {name or 'test_'}", text) for text in texts), f"{file} has no {name}"


def test_the_code_that_the_model_s_document_names_exists() -> None:
    """The second column of its tables: ``module.name``, below ``litegpt`` unless it says ``training``."""
    rows = re.findall(
        r"^\|(?:[^|]*)\|([^|]*)\|[^|]*\|[^|]*\|$", (ROOT / "docs" / "model.md").read_text(), re.M
    )
    named = {name for row in rows for name in re.findall(r"`([a-z_]+(?:\.\w+)*)`", row)} - {"pyproject.toml"}
    assert len(named) > 30
    for name in named:
        path = name.split(".") if name.startswith("training.") else ["litegpt", *name.split(".")]
        depth = 2 if len(path) > 1 else 1
        found = import_module(".".join(path[:depth]))
        for attribute in path[depth:]:
            found = getattr(found, attribute)


def test_links_within_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert {anchor for anchor in re.findall(r"\]\(#([^)]+)\)", text) if anchor not in headings} == set()


def test_the_readme_says_what_a_person_must_know() -> None:
    text = (ROOT / "README.md").read_text()
    for said in (
        "not a medical device",
        "Llama 2 Community License",
        "BiomedCLIP",
        "PubMedCLIP",
        "VinDr-CXR",
    ):
        assert said in text
