"""Display images on disk: the engine's to the bit, made once, kept whatever happens."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from litegpt.errors import RadiographError
from litegpt.phantoms import phantom_files
from litegpt.preprocessing import Preprocessing, squash
from litegpt.radiograph import read_radiograph
from tests.processes import running
from training import display_cache
from training.datasets.problems import Kind, Tally
from training.display_cache import PIXELS_VERSION, DisplayCache
from training.errors import TrainingError
from training.phantom.collection import fresh_phantoms, write_collection
from training.shard_writer import ShardWriter
from training.shards import ShardError


def engines(file: Path, size: int = 224) -> NDArray[np.uint8]:
    """What the engine squashes a DICOM file to."""
    (square,) = squash([Preprocessing(size)], read_radiograph(file)).squares
    return square


@pytest.fixture
def phantoms(tmp_path: Path) -> list[Path]:
    """Copies of the shipped phantoms: one in each form that phantoms are written in."""
    (tmp_path / "images").mkdir()
    return [Path(shutil.copy2(file, tmp_path / "images" / file.name)) for file in phantom_files()]


@pytest.fixture
def cache(tmp_path: Path) -> DisplayCache:
    return DisplayCache(tmp_path / "cache")


class Reader:
    """Reads images, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[Path] = []
        self._read_image = display_cache.read_image
        monkeypatch.setattr(display_cache, "read_image", self)

    def __call__(self, file: Path) -> Any:
        self.read.append(file)
        return self._read_image(file)


def unreadable(_: Path) -> Any:
    raise RadiographError("cannot be read today")


@pytest.mark.parametrize("workers", [0, 2])
def test_squares_are_the_engines(phantoms: list[Path], cache: DisplayCache, workers: int) -> None:
    told: list[tuple[int, int]] = []
    squares = cache.fill(phantoms, workers, lambda done, total: told.append((done, total)))
    assert told == [(done, len(phantoms)) for done in range(len(phantoms) + 1)]
    assert squares.missing == {} and squares.present == list(range(len(phantoms)))
    for place, file in enumerate(phantoms):
        np.testing.assert_array_equal(squares[place], engines(file))
    again = pickle.loads(pickle.dumps(cache.find(phantoms)))
    np.testing.assert_array_equal(again[3], engines(phantoms[3]))


def test_squares_of_another_size_lie_beside(phantoms: list[Path], cache: DisplayCache) -> None:
    cache.fill(phantoms[:1])
    other = DisplayCache(cache.caches, 96)
    np.testing.assert_array_equal(other.fill(phantoms[:1])[0], engines(phantoms[0], 96))
    np.testing.assert_array_equal(cache.find(phantoms[:1])[0], engines(phantoms[0]))


def test_png_and_jpeg_are_squashed_as_dicom_is(tmp_path: Path, cache: DisplayCache) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.jpeg")
    squares = cache.fill([tmp_path / "a.png", tmp_path / "a.jpeg"])
    np.testing.assert_array_equal(squares[0], Preprocessing().squash(pixels))
    decoded = np.asarray(Image.open(tmp_path / "a.jpeg"))
    np.testing.assert_array_equal(squares[1], Preprocessing().squash(decoded))


def test_pixels_change_only_with_their_version() -> None:
    """Where this fails and the change is meant, raise ``PIXELS_VERSION`` and take over the new digest."""
    digest = hashlib.sha256(b"".join(engines(file).tobytes() for file in sorted(phantom_files())))
    assert (PIXELS_VERSION, digest.hexdigest()[:16]) == (1, "77ae9aae5b640b04")


def test_another_version_has_other_keys(
    phantoms: list[Path], cache: DisplayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fill(phantoms[:2])
    before = cache.key(bytes(32))
    reader = Reader(monkeypatch)
    monkeypatch.setattr(display_cache, "PIXELS_VERSION", PIXELS_VERSION + 1)
    assert cache.key(bytes(32)) != before
    assert cache.find(phantoms[:2]).present == []
    cache.fill(phantoms[:2])
    assert reader.read == phantoms[:2]


def test_a_second_time_nothing_is_opened(phantoms: list[Path], cache: DisplayCache) -> None:
    squares = [square.copy() for square in cache.fill(phantoms)]
    for file in phantoms:
        stamp = file.stat()
        file.write_bytes(bytes(stamp.st_size))  # to be seen only by who opens it
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again = cache.fill(phantoms)
    for place, square in enumerate(squares):
        np.testing.assert_array_equal(again[place], square)


def test_a_moved_file_is_not_decoded_again(
    phantoms: list[Path], cache: DisplayCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fill(phantoms)
    reader = Reader(monkeypatch)
    moved = phantoms[0].rename(tmp_path / "elsewhere.dcm")
    np.testing.assert_array_equal(cache.fill([moved, *phantoms[1:]])[0], engines(moved))
    assert reader.read == []


def test_a_file_that_changes_gets_another_square(phantoms: list[Path], cache: DisplayCache) -> None:
    cache.fill(phantoms)
    expected = engines(phantoms[1])
    shutil.copyfile(phantoms[1], phantoms[0])
    assert cache.find(phantoms).present == list(range(1, len(phantoms)))
    squares = cache.fill(phantoms)
    np.testing.assert_array_equal(squares[0], expected)
    assert squares.keys[0] == squares.keys[1]


def test_the_same_file_may_come_twice(
    phantoms: list[Path], cache: DisplayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(monkeypatch)
    squares = cache.fill([phantoms[0], phantoms[1], phantoms[0]])
    assert reader.read == phantoms[:2]
    np.testing.assert_array_equal(squares[0], squares[2])


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(phantoms: list[Path], cache: DisplayCache) -> None:
    phantoms[1].write_text("no DICOM file")
    phantoms[2].unlink()
    squares = cache.fill(phantoms, workers=1)
    assert sorted(squares.missing) == [1, 2]
    assert squares.missing[1].kind is Kind.UNREADABLE_IMAGE
    assert squares.missing[2].kind is Kind.MISSING_IMAGE
    assert str(squares.missing[1]) == f"{phantoms[1]}: the file is not a DICOM file"
    np.testing.assert_array_equal(squares[3], engines(phantoms[3]))
    with pytest.raises(TrainingError, match="is not cached: the file is not a DICOM file"):
        squares[1]
    tally = Tally()
    squares.report(tally)
    assert tally.counts == {Kind.MISSING_IMAGE: 1, Kind.UNREADABLE_IMAGE: 1}


def test_processes_that_decode_start_without_torch() -> None:
    source = "import sys, training.display_cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], timeout=60).returncode == 0


def test_nothing_to_do_makes_nothing(cache: DisplayCache, tmp_path: Path) -> None:
    assert len(cache.fill([])) == 0
    assert cache.find([tmp_path / "a"]).present == []
    assert not cache.caches.exists()


def test_one_filler_at_a_time_and_readers_meanwhile(phantoms: list[Path], cache: DisplayCache) -> None:
    cache.fill(phantoms[:4])
    with ShardWriter(cache.folder, cache.form):
        with pytest.raises(ShardError, match="another process is writing to it"):
            cache.fill(phantoms)
        assert cache.find(phantoms).present == [0, 1, 2, 3]
        assert cache.fill(phantoms[:4]).missing == {}  # nothing to do, so nothing to wait for
    assert cache.fill(phantoms).missing == {}


def test_ctrl_c_keeps_what_is_done(
    phantoms: list[Path], cache: DisplayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(phantoms, 1, broken_off)
    reader = Reader(monkeypatch)
    cache.fill(phantoms)
    assert reader.read == phantoms[3:]


def test_damage_is_told_and_mended(
    phantoms: list[Path], cache: DisplayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fill(phantoms)
    shard = cache.folder / "shard-00000"
    content = bytearray(shard.read_bytes())
    content[2 * 224 * 224 + 1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match="record 2 is damaged"):
        cache.find(phantoms)[2]
    with monkeypatch.context() as patch:
        patch.setattr(display_cache, "read_image", unreadable)
        assert list(cache.fill(phantoms, verify=True).missing) == [2]
    reader = Reader(monkeypatch)
    squares = cache.fill(phantoms, verify=True)
    assert reader.read == [phantoms[2]]
    np.testing.assert_array_equal(squares[2], engines(phantoms[2]))


_FILL = """
import sys
import threading
from pathlib import Path
from training import display_cache

if __name__ == "__main__":
    display_cache._COMMIT_SECONDS = 0  # each image is kept at once

    def told(done, total):
        print(done, flush=True)
        if done == 10:
            threading.Event().wait()  # for the kill

    files = sorted(Path(sys.argv[1]).glob("*.dcm"))
    display_cache.DisplayCache(Path(sys.argv[2])).fill(files, 2, told)
"""


def test_a_kill_loses_only_what_was_not_kept_yet(
    tmp_path: Path, cache: DisplayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(write_collection(fresh_phantoms(24, 3), tmp_path / "images"))
    program = tmp_path / "fill.py"
    program.write_text(_FILL)
    with running(
        [sys.executable, program, tmp_path / "images", cache.caches], log=tmp_path / "log"
    ) as filling:
        filling.wait_until(lambda: "10" in filling.output().split(), 60, "tenth image")
        workers = filling.descendants()
        assert len(workers) >= 2
        filling.popen.kill()  # it alone: the processes that decode have to see its end themselves
        _, left = psutil.wait_procs(workers, timeout=10)
        assert left == []
    assert filling.popen.returncode == -signal.SIGKILL
    before = cache.find(files).present
    reader = Reader(monkeypatch)
    squares = cache.fill(files)
    assert before == list(range(10))
    assert reader.read == files[10:]
    for place, file in enumerate(files):
        np.testing.assert_array_equal(squares[place], engines(file))
