"""Work in processes, some of which die."""

from __future__ import annotations

import os
import signal

import pytest

from training.decoding_pool import DecodingPool, ProcessDied


def square_or_die(number: int) -> int:
    if number in (3, 4, 20):
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 99:
        raise ZeroDivisionError
    return number**2


def own_process(_: int) -> int:
    return os.getpid()


def test_a_death_costs_only_the_item_that_caused_it() -> None:
    results = list(DecodingPool(square_or_die, 2).results(range(24)))
    assert [item for item, _ in results] == list(range(24))
    died = [item for item, outcome in results if isinstance(outcome, ProcessDied)]
    assert died == [3, 4, 20]
    assert all(outcome == item**2 for item, outcome in results if item not in died)


def test_an_error_of_the_job_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        list(DecodingPool(square_or_die, 1).results([1, 99]))


def test_no_workers_is_this_process() -> None:
    assert list(DecodingPool(own_process, 0).results([1])) == [(1, os.getpid())]
    ((_, other),) = DecodingPool(own_process, 1).results([1])
    assert other != os.getpid()
