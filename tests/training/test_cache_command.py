"""``litegpt-train cache`` as a person calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from litegpt.cache_folder import default_cache_folder
from training.cli import app, main
from training.display_cache import DisplayCache
from training.phantom.collection import fresh_phantoms, write_collection

runner = CliRunner()


def cache(*arguments: object) -> Result:
    return runner.invoke(app, ["cache", *map(str, arguments), "--workers", "0"], env={"COLUMNS": "120"})


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return sorted(write_collection(fresh_phantoms(4, 11), tmp_path / "phantoms"))


def test_it_fills_the_cache_and_says_what_is_there(tmp_path: Path, images: list[Path]) -> None:
    result = cache("phantom", images[0].parent, "--cache", tmp_path / "cache", "--strict")
    assert result.exit_code == 0, result.output
    assert "4 of 4 images are cached" in result.stdout
    assert f"0.2 MB in {tmp_path / 'cache' / 'display-v1-224'}" in result.stdout
    assert DisplayCache(tmp_path / "cache").find(images).present == [0, 1, 2, 3]


def test_failures_are_counted_by_kind(tmp_path: Path, images: list[Path]) -> None:
    images[0].write_text("no DICOM")
    images[2].unlink()
    arguments = ("phantom", images[0].parent, "--cache", tmp_path / "cache")
    result = cache(*arguments)
    assert result.exit_code == 0, result.output
    assert "unreadable-image: 1" in result.stdout
    assert f"{images[0]}: the file is not a DICOM file" in result.stdout
    assert "missing-image: 1" in result.stdout
    assert cache(*arguments, "--strict").exit_code == 1


def test_the_default_folder_is_where_caches_belong(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache("phantom", images[0].parent).exit_code == 0
    assert DisplayCache(tmp_path / "xdg" / "litegpt").find(images).missing == {}
    for relative in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert default_cache_folder() == Path.home() / ".cache" / "litegpt"


def test_ctrl_c_says_that_the_work_is_kept(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DisplayCache, "fill", broken_off)
    result = cache("phantom", images[0].parent, "--cache", tmp_path / "cache")
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr


def test_a_folder_of_other_things_is_refused(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache" / "display-v1-224"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    arguments = ["cache", "phantom", str(images[0].parent), "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr(sys, "argv", ["litegpt-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"litegpt-train: {folder}: is no cache of ours: it has 'notes.txt', and no store.json\n"
    )
