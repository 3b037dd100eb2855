"""Loading ahead: in order, never further ahead than asked, errors where they belong, threads gone after."""

from __future__ import annotations

import threading

import pytest

from litegpt.ahead import load_ahead


def test_items_come_in_order_with_what_was_loaded() -> None:
    assert [(item, wait()) for item, wait in load_ahead(range(20), str, depth=3)] == [
        (number, str(number)) for number in range(20)
    ]


def test_what_was_handed_out_may_be_waited_for_after_the_last() -> None:
    def load(number: int) -> int:
        return sum(range(100_000)) * 0 + number

    handed_out = list(load_ahead(range(12), load, depth=12))
    assert [wait() for _, wait in handed_out] == list(range(12))


def test_an_error_is_raised_where_its_item_is_waited_for() -> None:
    waits = dict(load_ahead([1, 0, 2], lambda number: 1 // number, depth=2))
    assert (waits[1](), waits[2]()) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        waits[0]()


def test_no_more_than_the_depth_is_ahead() -> None:
    """The item asked for, and three more: the fifth is not touched before the second is asked for."""
    started: list[int] = []
    loading = load_ahead(range(10), started.append, depth=3)
    for asked in range(4):
        _, wait = next(loading)
        wait()
        assert set(started) <= set(range(asked + 4))
    loading.close()


def test_the_next_is_loaded_while_the_last_is_worked_on() -> None:
    loaded = threading.Event()

    def load(number: int) -> int:
        if number == 1:
            loaded.set()
        return number

    loading = load_ahead(range(2), load, depth=1)
    _, wait = next(loading)
    assert wait() == 0
    assert loaded.wait(timeout=60)
    loading.close()


def test_threads_end_with_the_loading_also_when_it_is_broken_off() -> None:
    loading = load_ahead(range(100), str, depth=4)
    next(loading)
    loading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]
