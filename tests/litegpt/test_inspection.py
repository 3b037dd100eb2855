"""A look at a model folder without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, model_folder
from litegpt.inspection import content_digest, inspect
from tests.models import model_copy


def test_the_shipped_model_is_whole() -> None:
    seen = inspect("phantom")
    assert seen.identity.id == "litegpt-phantom" and seen.verified
    assert seen.folder == model_folder("phantom")


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"version": 3}, "version is no name"),
        ({"version": ""}, "version is no name"),
        ({"id": "two words"}, "id has characters that no name may have"),
        ({"id": "two\nlines"}, "id has characters that no name may have"),
        ({"id": "x" * 65}, "id is no name"),
        ({"demonstration": "no"}, "demonstration is neither true nor false"),
        ({"vocabulary": {"local": [], "global": []}}, "vocabulary is not the one"),
        ({"encoders": None, "adapter": None}, "does not say its encoders, adapter"),
        ({"checksums": {"tokenizer/tokenizer.json": "0" * 64}}, "is not the file that was saved"),
        ({"checksums": {"gone.bin": "0" * 64}}, "gone.bin is missing"),
        (
            {"operating_point": {"version": "1"}},
            "thresholds were measured for version 1",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_with_one_line(
    tmp_path: Path, config: dict[str, Any], complaint: str
) -> None:
    folder = model_copy(tmp_path / "model", "2", **config)
    with pytest.raises(ModelError, match=complaint) as refused:
        inspect(folder)
    assert "\n" not in str(refused.value)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = model_copy(tmp_path / "model", "2", checksums=None)
    (folder / "projection.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not a whole model folder: it has no projection\.safetensors"):
        inspect(folder)
    with pytest.raises(ModelError, match="is not a model folder"):
        inspect(tmp_path)


def test_the_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    ones = [model_copy(tmp_path / name, "2", checksums=None) for name in "ab"]
    assert content_digest(ones[0]) == content_digest(ones[1])
    weights = ones[1] / "projection.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + b"x")
    assert content_digest(ones[0]) != content_digest(ones[1])
    assert not inspect(ones[1]).verified
    assert inspect(ones[0]).identity == ModelIdentity("litegpt-phantom", "2", True)
    with_sums = [model_copy(tmp_path / f"{name} sums", "2", max_new_tokens=n) for n, name in enumerate("ab")]
    assert content_digest(with_sums[0]) != content_digest(with_sums[1])
