"""Checks, before anything is downloaded, that ``make`` can set the project up here, and says what it will do.

Run by the Makefile with whatever Python the person has, so it speaks no newer Python than 3.6 and imports
nothing that is not in every Python. Exit code 0: go on. Exit code 2: what is missing was printed.
"""

# ruff: noqa: UP032

import platform
import shutil
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
GIGABYTE = 1_000_000_000
# Measured with the PyTorch that PyPI gives to x86-64 Linux, which brings CUDA along.
CUDA_INSTALLED_BYTES = 6.4 * GIGABYTE
CUDA_DOWNLOAD_BYTES = 3.2 * GIGABYTE
CPU_INSTALLED_BYTES = 1.7 * GIGABYTE
CPU_DOWNLOAD_BYTES = 0.4 * GIGABYTE


def missing_python():
    if sys.version_info < OLDEST_PYTHON:
        found = platform.python_version()
        wanted = ".".join(str(part) for part in OLDEST_PYTHON)
        return [
            "Python {} or newer is needed, {} is {}. ".format(wanted, sys.executable, found)
            + "If a newer one is installed: make PYTHON=/path/to/python3.11 …"
        ]
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        return [
            "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt install " + package
        ]
    return []


def missing_disk(folder, installed_bytes, download_bytes):
    """pip unpacks beside ``folder`` and keeps what it downloaded in a cache in the home folder."""
    needed_bytes = {}
    place_of = {}
    for place, size in ((folder, installed_bytes), (Path.home(), download_bytes)):
        device = place.stat().st_dev
        place_of.setdefault(device, place)
        needed_bytes[device] = needed_bytes.get(device, 0) + size
    lines = []
    for device, size in needed_bytes.items():
        free = shutil.disk_usage(place_of[device]).free
        if free < size:
            lines.append(
                "{:.1f} GB of free disk are needed at {}, {:.1f} GB are free.".format(
                    size / GIGABYTE, place_of[device], free / GIGABYTE
                )
            )
    return lines


def has_cuda_wheels():
    return sys.platform.startswith("linux")


def announcement(folder, installed_bytes, download_bytes, cpu_only):
    minutes_fast = max(1, round(download_bytes * 8 / 200e6 / 60 + 1.5))
    minutes_slow = max(2, round(download_bytes * 8 / 20e6 / 60 + 3))
    lines = [
        "Setting up {} (once): about {:.1f} GB to download, {:.1f} GB on disk,".format(
            folder, download_bytes / GIGABYTE, installed_bytes / GIGABYTE
        ),
        "about {} minutes at 200 Mbit/s, {} at 20 Mbit/s.".format(minutes_fast, minutes_slow),
    ]
    if not cpu_only and has_cuda_wheels():
        lines.append("Most of it is PyTorch with CUDA. No NVIDIA GPU here? Stop (Ctrl-C) and see")
        lines.append(
            '"PyTorch for the CPU alone" in README.md: it is {:.1f} GB then.'.format(
                CPU_DOWNLOAD_BYTES / GIGABYTE
            )
        )
    return lines


def main():
    folder = Path(sys.argv[1]).absolute()
    cpu_only = (len(sys.argv) > 2 and bool(sys.argv[2])) or not has_cuda_wheels()
    installed = CPU_INSTALLED_BYTES if cpu_only else CUDA_INSTALLED_BYTES
    download = CPU_DOWNLOAD_BYTES if cpu_only else CUDA_DOWNLOAD_BYTES
    already = (folder / "lib").is_dir()
    missing = missing_python()
    if not missing and not already:
        missing = missing_disk(folder.parent, installed, download)
    if missing:
        for line in missing:
            print("preflight: " + line, file=sys.stderr)
        return 2
    for line in announcement(folder.name, installed, download, cpu_only):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
