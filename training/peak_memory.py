"""The most memory that a piece of work used."""

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
        """Args:
        device: As PyTorch names it.
        """
        self._device = device

    def reset(self) -> None:
        """Forgets the highest so far."""
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR.exists():
            _CLEAR.write_text(_FORGET_THE_PEAK, encoding="ascii")

    def bytes(self) -> int | None:
        """The highest since then; None where the operating system does not tell."""
        if self._device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self._device))
        if not _STATUS.exists():
            return None
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
