"""A log as JSON: what each line holds, whatever the message."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NeverAgain
from service.logs import JSONLine


def _line(message: str, *arguments: object, level: int = logging.INFO, exc_info: object = None) -> str:
    record = logging.LogRecord("service.somewhere", level, __file__, 1, message, arguments, exc_info)  # type: ignore[arg-type]
    return JSONLine().format(record)


@pytest.mark.parametrize(
    ("message", "study", "analysis"),
    [
        ("study 1.2.840.3: analysis 17 done, 3 findings to report", "1.2.840.3", 17),
        ("stored 1.2.3.4 of study 2.25.99: stored", "2.25.99", None),
        ("analysis 5 goes from a 1 to b 2", None, 5),
        ("study of 3 images: nothing; analyses 3", None, None),
        ("listening as LITEGPT on port 104", None, None),
    ],
)
def test_study_and_analysis_are_told_where_the_message_has_them(
    message: str, study: str | None, analysis: int | None
) -> None:
    event = json.loads(_line(message))
    assert (event.get("study"), event.get("analysis")) == (study, analysis)
    assert (event["message"], event["level"], event["logger"]) == (message, "INFO", "service.somewhere")


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = _line("analysis %d of study %s", 3, "1.2", level=logging.ERROR, exc_info=sys.exc_info())
    assert "\n" not in line
    event = json.loads(line)
    assert (event["analysis"], event["study"], event["level"]) == (3, "1.2", "ERROR")
    assert event["traceback"].startswith("Traceback (most recent call last):\n  File ")
    assert event["traceback"].endswith("\nValueError"), "its words may quote a patient"


def _raised(first: Exception, then: Exception) -> str:
    try:
        try:
            raise first
        except Exception as error:
            raise then from error
    except Exception:  # noqa: BLE001 - whatever the test raises
        return _line("broke off", exc_info=sys.exc_info())


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (
            ValueError("DOE^JOHN"),
            NeverAgain("study 1.2 is away"),
            ["ValueError", "NeverAgain: study 1.2 is away"],
        ),
        (KeyError("DOE^JOHN"), RuntimeError("out of memory"), ["KeyError", "RuntimeError: out of memory"]),
        (
            FileNotFoundError(2, "No such file", "/cd/DOE^JOHN"),
            NotImplementedError("DOE^JOHN"),
            ["FileNotFoundError: No such file", "NotImplementedError"],
        ),
    ],
)
def test_of_an_error_only_words_that_quote_nobody_are_told(
    first: Exception, then: Exception, told: list[str]
) -> None:
    """Nor are those of what led to it, which Python would print as well."""
    traceback = json.loads(_raised(first, then))["traceback"]
    assert "DOE" not in traceback
    assert [text for text in traceback.splitlines() if not text.startswith((" ", "Traceback"))] == [
        told[0],
        "",
        "which led to:",
        "",
        told[1],
    ]


def test_what_nobody_catches_is_told_so_too() -> None:
    """In a thread, and in the main one."""
    code = (
        "import threading; from service import logs; logs.configure('INFO');"
        "thread = threading.Thread(target=lambda: int('DOE^JOHN'));"
        "thread.start(); thread.join(); int('DOE^JANE')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("CRITICAL") == done.stderr.count("\nValueError\n") == 2
    assert "invalid literal" not in done.stderr


@given(st.text())
def test_any_message_is_one_line_that_parses(message: str) -> None:
    line = _line("%s", message)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == message
