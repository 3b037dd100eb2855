"""How many cores a process may use: those that it is bound to, and its container's share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from litegpt.cores import usable_cores


def test_it_is_those_that_the_process_is_bound_to(tmp_path: Path) -> None:
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(bound)})
    try:
        assert usable_cores(tmp_path / "no such file") == 1
    finally:
        os.sched_setaffinity(0, bound)
    assert usable_cores(tmp_path / "no such file") == len(bound)


@pytest.mark.parametrize(
    ("share", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("1 0", None), ("max 100000", None), ("", None)],
)
def test_a_container_may_have_a_share_of_them(tmp_path: Path, share: str, cores: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(share)
    assert usable_cores(quota) == (cores or len(os.sched_getaffinity(0)))
