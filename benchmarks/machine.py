"""The machine a measurement was made on, and what it can do at most."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.roofline import Peak

DATA_SHEETS: Final = {
    "NVIDIA H200": Peak(989e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": Peak(989e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": Peak(312e12, 2.039e12),
}
"""Of dense bfloat16 products, by the name that PyTorch gives a device; NVIDIA's data sheets."""

_SIDE: Final = {"cpu": 1024, "cuda": 8192}
_COPIED: Final = {"cpu": 2**28, "cuda": 2**30}
"""Bytes that are copied, more than any cache holds."""
_ATTEMPTS: Final = 5


def describe() -> dict[str, Any]:
    """What somebody who repeats a measurement should know of the machine, for JSON."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": device_name("cuda") if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
    }


def report(program: str, out: Path | None, found: Mapping[str, Any]) -> None:
    """Writes what was found as JSON, with what somebody who repeats it should know; or prints it."""
    command = " ".join([f"python -m benchmarks.{program}", *sys.argv[1:]])
    of_machine = {"command": command, "machine": describe(), "load_average": load_average()}
    text = json.dumps({**of_machine, **found}, indent=1) + "\n"
    if out:
        out.write_text(text, encoding="ascii")
    else:
        print(text, end="")


def load_average() -> float:
    """Of the last minute: processes that ran or wanted to. More than the cores means disturbed times."""
    return os.getloadavg()[0]


def device_name(device: str) -> str:
    """The name of a GPU; of the CPU only that it is one."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def attainable(device: str, dtype: torch.dtype) -> tuple[Peak, str]:
    """What a device attains, and where that is known from: its data sheet, else tried."""
    if dtype == torch.bfloat16 and (sheet := DATA_SHEETS.get(device_name(device))):
        return sheet.attainable(), "80 % of the data sheet's FLOP/s, 90 % of its bandwidth"
    return measured_peak(device, dtype), "the fastest of five matrix products and of five copies, here"


def measured_peak(device: str, dtype: torch.dtype) -> Peak:
    """The fastest matrix product and copy out of a few."""
    kind = device.partition(":")[0]
    side, copied = _SIDE[kind], _COPIED[kind]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = _fastest(lambda: left @ right, device)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _fastest(lambda: target.copy_(source), device)
    return Peak(2 * side**3 / product, 2 * copied / copy)


def _fastest(work: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(_ATTEMPTS):
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
