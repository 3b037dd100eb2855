"""The most memory that a measurement used."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

_CLEAR: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")
_FORGET_THE_PEAK: Final = "5"
"""See proc_pid_clear_refs(5)."""


class PeakMemory:
    """The most since it was last reset: PyTorch's memory of the device, or all of the process on the CPU."""

    def __init__(self, device: str) -> None:
        self._device = device

    def reset(self) -> None:
        """Forgets the highest so far."""
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _CLEAR.write_text(_FORGET_THE_PEAK, encoding="ascii")

    def bytes(self) -> int:
        """The highest since then."""
        if self._device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self._device))
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
