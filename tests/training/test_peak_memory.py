"""The peak of memory, against how much was held."""

from __future__ import annotations

import numpy as np
import pytest

from training.peak_memory import PeakMemory


def test_the_peak_is_what_was_held_at_once_until_it_is_reset() -> None:
    memory = PeakMemory("cpu")
    memory.reset()
    before = memory.bytes()
    if before is None:
        pytest.skip("this system does not tell a process's peak of memory")
    held = np.ones(25_000_000)  # 200 MB
    assert 190e6 < (memory.bytes() or 0) - before < 260e6
    del held
    assert (memory.bytes() or 0) - before > 190e6
    memory.reset()
    assert (memory.bytes() or 0) - before < 100e6
