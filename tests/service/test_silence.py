"""Who has been silent for longer than usual, against cases worked out by hand, on both databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import insert

from service.records.database import Records, utc_now
from service.records.silence import MOST, Silence, longest_silence, margin, same_times, silences
from service.records.states import Priority, StudyState
from service.records.tables import Instance, Study
from service.web.collectors import SilenceCollector
from service.web.kept import Kept
from tests.scrape import Scrape

PARIS = ZoneInfo("Europe/Paris")
ALERTS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yml"
_numbers = count(1)


def _at(text: str) -> datetime:
    """A clock's time in Paris."""
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


def _send(
    records: Records, title: str, moments: Sequence[datetime], priority: Priority = Priority.ROUTINE
) -> None:
    """A study of one image at each moment."""
    studies, images = [], []
    for number, at in zip(_numbers, moments, strict=False):
        uid = f"1.2.3.{number}"
        base = {"id": number, "study_instance_uid": uid, "priority": priority, "state": StudyState.COMPLETE}
        studies.append(base | {"receiving_since": at, "last_eligible_at": at})
        image = {"study_id": number, "sop_instance_uid": f"{uid}.1", "sop_class_uid": "1", "digest": uid}
        image |= {"series_instance_uid": "1", "transfer_syntax_uid": "1", "path": uid, "size_bytes": 1}
        images.append(image | {"eligible": True, "calling_ae_title": title, "received_at": at})
    with records.writing() as session:
        session.execute(insert(Study), studies)
        session.execute(insert(Instance), images)


def _working_days(first: str, days: int) -> Iterator[datetime]:
    """Every quarter of an hour from 8:00 to 17:00 in Paris, Monday to Friday."""
    for day in range(days):
        midnight = datetime.fromisoformat(first) + timedelta(days=day)
        if midnight.weekday() < 5:
            for quarter in range(8 * 4, 17 * 4 + 1):
                at = midnight + timedelta(minutes=15 * quarter)
                yield at.replace(tzinfo=PARIS).astimezone(UTC)


def _silence(records: Records, now: datetime) -> Silence:
    with records.snapshot() as session:
        (found,) = silences(session, now, PARIS)
    return found


@pytest.fixture
def week_days(records: Records) -> Records:
    """A modality that worked from Monday, 2 February 2026, to Friday, 6 March, at noon, and then no more."""
    moments = [at for at in _working_days("2026-02-02", 40) if at <= _at("2026-03-06 12:00")]
    _send(records, "DX1", moments)
    return records


@pytest.mark.parametrize(
    ("now", "usual", "unusual"),
    [
        # On the four Fridays before it sent each quarter of an hour; half an hour is the margin.
        ("2026-03-06 12:40", timedelta(minutes=15), False),
        ("2026-03-06 12:46", timedelta(minutes=15), True),
        # From 17:00 on it is silent on other Fridays, too: until 20:00, an hour after, for three hours.
        ("2026-03-06 19:00", timedelta(hours=3), True),
        # On Saturdays at noon plus one hour since Friday, 17:00: 20 hours; since Friday noon it is 24.
        ("2026-03-07 12:00", timedelta(hours=20), False),
        ("2026-03-07 12:01", timedelta(hours=20, minutes=1), False),
        # On Mondays until 8:00 since Friday, 17:00: 63 hours.
        ("2026-03-09 07:30", timedelta(hours=63), True),
        ("2026-03-09 09:30", timedelta(minutes=15), True),
        # Two weeks later the silent weeks are no measure.
        ("2026-03-20 12:00", timedelta(minutes=15), True),
    ],
)
def test_a_modality_that_works_on_week_days(
    week_days: Records, now: str, usual: timedelta, unusual: bool
) -> None:
    found = _silence(week_days, _at(now))
    assert (found.usual, found.weeks) == (usual, 4)
    assert found.lasts(_at(now)) == _at(now) - _at("2026-03-06 12:00")
    assert found.is_unusual(_at(now)) == unusual


def test_the_longest_of_the_weeks_is_the_measure(records: Records) -> None:
    service = _at("2026-02-20 11:00"), _at("2026-02-20 12:30")
    moments = [at for at in _working_days("2026-02-02", 33) if not service[0] < at < service[1]]
    _send(records, "DX1", moments)
    assert _silence(records, _at("2026-03-06 12:00")).usual == timedelta(hours=1, minutes=30)


def test_what_has_been_taken_away_is_forgotten(week_days: Records) -> None:
    with week_days.snapshot() as session:
        # Sixty days, of which one has 23 hours.
        assert silences(session, _at("2026-05-05 12:59"), PARIS) != ()
        assert silences(session, _at("2026-05-05 13:01"), PARIS) == ()


def test_of_a_new_modality_nothing_is_said(records: Records) -> None:
    _send(records, "NEW", list(_working_days("2026-03-02", 12)))
    found = _silence(records, _at("2026-03-13 16:00"))
    # The week before last it was not here.
    assert (found.usual, found.weeks) == (None, 1)
    assert not found.is_unusual(_at("2026-03-27 12:00"))


def test_what_we_fetched_ourselves_is_nobodys_habit(records: Records) -> None:
    moments = list(_working_days("2026-02-02", 40))
    _send(records, "PACS", moments, Priority.BACKLOG)
    _send(records, "", moments)
    with records.snapshot() as session:
        assert silences(session, _at("2026-03-13 16:00"), PARIS) == ()


def test_there_are_no_more_than_so_many_and_the_most_regular_are_kept(records: Records) -> None:
    weekly = [_at("2026-02-02 12:00") + timedelta(weeks=week) for week in range(5)]
    for number in range(MOST + 1):
        _send(records, f"STRANGER{number}", [_at("2026-03-09 12:00")])
    _send(records, "WEEKLY", weekly)
    _send(records, "DX1", list(_working_days("2026-02-02", 40)))
    with records.snapshot() as session:
        found = silences(session, _at("2026-03-09 12:00") + timedelta(hours=1), PARIS)
    assert len(found) == MOST
    assert [one.calling_ae_title for one in found[:2]] == ["DX1", "WEEKLY"]


def test_the_same_time_of_the_week_goes_by_the_clock_on_the_wall() -> None:
    # Summer time began on 29 March 2026.
    now = _at("2026-04-07 10:00")
    assert same_times(now, now, PARIS) == [
        _at(f"{day} 10:00") for day in ("2026-03-31", "2026-03-24", "2026-03-17", "2026-03-10")
    ]
    assert now - same_times(now, now, PARIS)[1] == timedelta(weeks=2, hours=-1)


MINUTES = st.integers(0, 600)


@given(before=st.integers(0, 599), sent=st.lists(MINUTES, max_size=8), end=MINUTES)
def test_the_longest_silence_is_the_longest_at_any_minute(before: int, sent: list[int], end: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(minutes=600 + minute) for minute in sorted(sent)]
    first, last = start + timedelta(minutes=before), start + timedelta(minutes=1200 + end)

    def silent_for(at: datetime) -> timedelta:
        return at - max(one for one in (first, *moments) if one < at)

    minutes = (start + timedelta(minutes=600 + minute) for minute in range(601 + end))
    assert longest_silence(first, moments, last) == max(silent_for(at) for at in minutes)


@given(st.floats(0, 10_000_000))
def test_a_margin_is_half_within_bounds_as_the_alert_reckons_it(seconds: float) -> None:
    (rule,) = (
        rule
        for group in yaml.safe_load(ALERTS.read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == "LiteGPTModalityIsSilent"
    )
    assert "clamp(litegpt_modality_silence_usual_seconds / 2, 1800, 14400)" in rule["expr"]
    expected = min(max(seconds / 2, 1800), 14400)
    assert margin(timedelta(seconds=seconds)).total_seconds() == pytest.approx(expected, abs=1e-3)


def test_metrics_tell_it_as_it_is_at_the_scrape() -> None:
    now = utc_now()
    heard = (
        Silence("DX1", now - timedelta(hours=9), timedelta(hours=2), 4),
        Silence("NEW", now - timedelta(minutes=1), None, 1),
    )
    registry = CollectorRegistry()
    registry.register(SilenceCollector(Kept("heard", lambda: heard, 60.0)))
    told = Scrape(generate_latest(registry).decode())
    assert told("litegpt_modality_silence_seconds", calling_ae_title="DX1") == pytest.approx(32400, abs=60)
    assert told("litegpt_modality_silence_usual_seconds", calling_ae_title="DX1") == 7200
    assert len(told.all_of("litegpt_modality_silence_seconds")) == 2
    assert len(told.all_of("litegpt_modality_silence_usual_seconds")) == 1
