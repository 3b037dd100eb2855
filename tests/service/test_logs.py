"""A log as JSON: what each line holds, whatever the message."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert event["traceback"].endswith("ValueError: two\nlines")


@given(st.text())
def test_any_message_is_one_line_that_parses(message: str) -> None:
    line = _line("%s", message)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == message
