"""What crashes, hangs or swells in the process beside ends there, and the next piece of work is done."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from litegpt.errors import RadiographError
from litegpt.isolation import Broken, Isolation, Limits
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from tests.waiting import wait_until

GIGABYTE = 1 << 30


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    before = set(psutil.Process().children())
    yield
    gc.collect()
    assert set(psutil.Process().children()) <= before


@pytest.fixture
def isolation() -> Iterator[Isolation]:
    isolation = Isolation(limits=Limits(seconds=20, memory_bytes=GIGABYTE))
    yield isolation
    isolation.close()


def pid_later() -> int:
    time.sleep(0.2)
    return os.getpid()


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    ctypes.CDLL(None).pause()


def crash_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def swell(size: int) -> int:
    return len(bytearray(size))


class Odd(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def raise_odd() -> None:
    raise Odd("an", "odd one")


def test_the_answer_is_the_same_as_here(isolation: Isolation) -> None:
    for file in phantom_files()[:2]:
        here, there = read_radiograph(file), isolation.call(read_radiograph, file)
        assert (here.pixels == there.pixels).all()
        assert (here.grayscale is None) == (there.grayscale is None)


def test_an_error_comes_back_as_itself(isolation: Isolation, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(RadiographError, match="not a DICOM file"):
        isolation.call(read_radiograph, tmp_path / "text")
    with pytest.raises(FileNotFoundError) as caught:
        isolation.call(read_radiograph, tmp_path / "nothing")
    assert caught.value.errno is not None
    with pytest.raises(RuntimeError, match=r"^Odd$"):
        isolation.call(raise_odd)


def test_a_crash_is_an_error_and_the_next_work_is_done(isolation: Isolation) -> None:
    with pytest.raises(Broken, match="SIGSEGV"):
        isolation.call(crash)
    assert isolation.call(swell, 10) == 10


def test_what_the_system_ended_is_tried_once_more(isolation: Isolation, tmp_path: Path) -> None:
    assert isolation.call(crash_once, tmp_path / "marker") == "done"


def test_an_endless_loop_in_c_is_ended() -> None:
    isolation = Isolation(limits=Limits(seconds=1))
    with pytest.raises(Broken, match="longer than 1 s"):
        isolation.call(hang)


def test_without_processes_the_work_is_done_here() -> None:
    assert Isolation(processes=0).call(os.getpid) == os.getpid()


def test_processes_end_when_nobody_can_ask_them_any_more() -> None:
    isolation = Isolation()
    child = psutil.Process(isolation.call(os.getpid))
    del isolation
    gc.collect()
    assert not child.is_running()


def test_memory_beyond_the_limit_is_refused(isolation: Isolation) -> None:
    assert isolation.call(swell, GIGABYTE // 2) == GIGABYTE // 2
    with pytest.raises(MemoryError):
        isolation.call(swell, 4 * GIGABYTE)


def test_threads_share_the_processes_and_no_more_are_started() -> None:
    isolation = Isolation(processes=2)
    asked: list[int] = []
    threads = [threading.Thread(target=lambda: asked.append(isolation.call(pid_later))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 6
    assert len(set(asked)) <= 2


def test_the_process_ends_with_its_parent() -> None:
    program = (
        "import os, time\n"
        "from litegpt.isolation import Isolation\n"
        "isolation = Isolation()\n"
        "print(isolation.call(os.getpid), flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10, "end of the child"
    )


def remember(what: str) -> None:
    os.environ["REMEMBERED"] = what


def remembered() -> str:
    return os.environ["REMEMBERED"]


def test_each_process_does_first_what_it_is_told_to() -> None:
    isolation = Isolation(initializer=partial(remember, "this"))
    assert isolation.call(remembered) == "this"
    with pytest.raises(Broken):
        isolation.call(crash)
    assert isolation.call(remembered) == "this"
    isolation.close()


def warn_of_a_patient() -> None:
    warnings.warn("Invalid value for VR PN: 'Doe^Jane'", UserWarning, stacklevel=1)


def test_no_warning_that_quotes_a_header_is_told(
    isolation: Isolation, capfd: pytest.CaptureFixture[str]
) -> None:
    isolation.call(warn_of_a_patient)
    assert capfd.readouterr() == ("", "")
