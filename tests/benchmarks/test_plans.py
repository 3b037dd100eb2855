"""What goes on all the time goes through no large table on PostgreSQL, by the plans of its own statements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import deeds, plans, years
from benchmarks.deeds import Deed
from benchmarks.years import Kind
from service.records.database import Records
from service.records.migrate import migrate
from service.settings import load_settings

_STUDIES = 20_000
_WAITING = 1_000


@pytest.fixture(scope="module")
def records(postgres_url: str) -> Iterator[Records]:
    """So many studies that to go through them is not the quickest, and some that wait."""
    own = Records.open(load_settings(data_dir=Path("/nonexistent"), database_url=postgres_url))
    migrate(own.engine)
    years.write(own, 1, _STUDIES)
    years.write(own, _STUDIES + 1, _STUDIES + _WAITING, Kind.PENDING)
    years.write(own, _STUDIES + _WAITING + 1, _STUDIES + 2 * _WAITING, Kind.DUE)
    yield own
    own.close()


@pytest.mark.parametrize("deed", deeds.work(), ids=lambda deed: deed.name)
def test_work_that_goes_on_all_the_time_goes_through_no_large_table(records: Records, deed: Deed) -> None:
    large = plans.large_tables(records.engine)
    assert {"study", "instance", "analysis", "result", "delivery"} <= set(large)
    own = plans.plans_of(records, deed)
    assert own
    assert plans.complaints(own, large) == []


def test_what_goes_through_a_large_table_is_found(records: Records) -> None:
    (reconciling,) = (deed for deed in deeds.looks() if deed.name == "reconcile: the sums")
    hidden = Deed(reconciling.name, reconciling.do)
    found = plans.complaints(plans.plans_of(records, hidden), plans.large_tables(records.engine))
    assert any("goes through analysis" in complaint for complaint in found)
