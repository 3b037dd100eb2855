"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.complete_file import complete_file


def test_what_was_written_is_there(tmp_path: Path) -> None:
    with complete_file(tmp_path / "one") as path:
        path.write_text("all")
        assert not (tmp_path / "one").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one").read_text() == "all"


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("before")
    with pytest.raises(OSError, match="no space"), complete_file(tmp_path / "one") as path:
        path.write_text("half")
        raise OSError("no space")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
