"""Tokens on disk: the frozen encoders' own, in half precision, never those of other weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from litegpt.model_folder import LiteGPT
from litegpt.phantoms import phantom_files
from litegpt.preprocessing import Preprocessing, prepare, squash
from litegpt.radiograph import read_radiograph
from tests.litegpt.tiny_models import tiny_model
from training.display_cache import DisplayCache
from training.errors import TrainingError
from training.shards import RecordForm, ShardError, Shards
from training.squares import Squares
from training.token_cache import TokenCache, Tokens, encoders_fingerprint

FILES = phantom_files()


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Squares:
    return DisplayCache(tmp_path_factory.mktemp("squares")).fill(FILES)


@pytest.fixture
def loaded() -> LiteGPT:
    return tiny_model()


def in_full(loaded: LiteGPT) -> torch.Tensor:
    """(images, tokens, width) float32, by the engine's own steps."""
    images = [squash(loaded.preprocessings, read_radiograph(file)) for file in FILES]
    with torch.inference_mode():
        return loaded.model.visual_tokens(prepare(loaded.preprocessings, images))


def cached(loaded: LiteGPT, squares: Squares, folder: Path, batch_size: int = 8) -> Tokens:
    return TokenCache(folder, encoders_fingerprint(loaded)).fill(loaded, squares, batch_size)


def test_the_papers_tokens_are_376_kilobytes_an_image() -> None:
    assert RecordForm("<f2", (245, 768)).record_bytes == 245 * 768 * 2 == 376_320


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_tokens_are_those_of_the_model_rounded_to_half_precision(
    loaded: LiteGPT, squares: Squares, tmp_path: Path, batch_size: int
) -> None:
    expected = in_full(loaded).numpy()  # (images, 245, width)
    tokens = cached(loaded, squares, tmp_path, batch_size)
    found = np.stack([tokens[place] for place in range(len(tokens))])  # (images, 245, width)
    assert found.dtype == np.float16 and found.shape == expected.shape == (len(FILES), 245, 16)
    # Half of float16's last place, and what another batch size does to float32's own last places
    bound = np.abs(expected) * 2.0**-11 + 2.0**-25 + 1e-5
    assert (np.abs(found.astype(np.float32) - expected) <= bound).all()


def test_what_the_language_model_gets_hardly_changes(squares: Squares, tmp_path: Path) -> None:
    shipped = LiteGPT.from_pretrained("phantom")
    tokens = cached(shipped, squares, tmp_path)
    halves = torch.from_numpy(np.stack([tokens[place] for place in range(len(tokens))])).float()
    with torch.inference_mode():
        expected = shipped.model.projection(in_full(shipped))  # (images, 49, embedding)
        found = shipped.model.projection(halves)  # (images, 49, embedding)
    assert ((found - expected).norm() / expected.norm()).item() < 1e-3


def test_a_second_time_nothing_is_encoded(
    loaded: LiteGPT, squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [tokens.copy() for tokens in (cached(loaded, squares, tmp_path)[place] for place in range(8))]

    def encoded(_: object) -> torch.Tensor:
        raise AssertionError("encoded again")

    monkeypatch.setattr(loaded.model, "visual_tokens", encoded)
    again = cached(loaded, squares, tmp_path)
    for place, tokens in enumerate(first):
        np.testing.assert_array_equal(again[place], tokens)


def test_what_is_broken_off_goes_on(loaded: LiteGPT, squares: Squares, tmp_path: Path) -> None:
    cache = TokenCache(tmp_path, encoders_fingerprint(loaded))

    def broken_off(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(loaded, squares, 2, progress=broken_off)
    told: list[tuple[int, int]] = []
    cache.fill(loaded, squares, 3, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 8), (7, 8), (8, 8)]


def test_other_encoders_have_another_fingerprint(loaded: LiteGPT) -> None:
    original = encoders_fingerprint(loaded)
    assert encoders_fingerprint(tiny_model()) == original
    assert encoders_fingerprint(tiny_model(seed=1)) != original
    with torch.no_grad():
        loaded.model.projection.fc1.weight.add_(1)
    assert encoders_fingerprint(loaded) == original
    loaded.model.fusion = "per_encoder"
    assert encoders_fingerprint(loaded) != original
    changed = tiny_model()
    weight = next(changed.model.encoders.parameters())
    with torch.no_grad():
        flat = weight.view(-1)
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(10.0))
    assert encoders_fingerprint(changed) != original
    changed = tiny_model()
    changed.model.encoders.half()
    assert encoders_fingerprint(changed) != original


def test_another_normalisation_has_another_fingerprint(loaded: LiteGPT) -> None:
    other = replace(loaded.config, preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5)))
    assert encoders_fingerprint(replace(loaded, config=other)) != encoders_fingerprint(loaded)


def test_what_weights_do_not_show_has_another_fingerprint(loaded: LiteGPT) -> None:
    first, second = loaded.config.encoders
    heads = replace(first, architecture={**(first.architecture or {}), "num_heads": 4})
    other = replace(loaded, config=replace(loaded.config, encoders=(heads, second)))
    assert encoders_fingerprint(other) != encoders_fingerprint(loaded)


def test_other_weights_than_the_fingerprints_are_refused(
    loaded: LiteGPT, squares: Squares, tmp_path: Path
) -> None:
    cache = TokenCache(tmp_path, encoders_fingerprint(loaded))
    with pytest.raises(TrainingError, match="encoders are not those that this cache is for"):
        cache.fill(tiny_model(seed=1), squares, 4)


def test_squares_of_another_size_are_refused(loaded: LiteGPT, tmp_path: Path) -> None:
    small = DisplayCache(tmp_path, 96).fill(FILES[:1])
    with pytest.raises(TrainingError, match="a side of 96; the encoders want 224"):
        cached(loaded, small, tmp_path)


def test_what_float16_cannot_hold_is_refused(loaded: LiteGPT, squares: Squares, tmp_path: Path) -> None:
    with torch.no_grad():
        loaded.model.encoders[0].trunk.norm.weight.fill_(1e6)
    with pytest.raises(TrainingError, match=r"phantom-five\.dcm: float16 cannot hold its tokens"):
        cached(loaded, squares, tmp_path)


def test_missing_images_stay_missing(loaded: LiteGPT, tmp_path: Path) -> None:
    squares = DisplayCache(tmp_path).fill([FILES[0], tmp_path / "nowhere.dcm"])
    tokens = cached(loaded, squares, tmp_path)
    assert len(tokens) == 2
    assert tokens[0].shape == (245, 16)
    with pytest.raises(TrainingError, match=r"nowhere\.dcm: its tokens are not cached"):
        tokens[1]


def test_encoders_stay_as_they_are(loaded: LiteGPT, squares: Squares, tmp_path: Path) -> None:
    loaded.model.train()
    cached(loaded, squares, tmp_path)
    assert loaded.model.encoders.training and loaded.model.encoders[0].training


def test_damage_is_mended(loaded: LiteGPT, squares: Squares, tmp_path: Path) -> None:
    cache = TokenCache(tmp_path, encoders_fingerprint(loaded))
    whole = cache.fill(loaded, squares, 8)[5].copy()
    shard = cache.folder / "shard-00000"
    content = bytearray(shard.read_bytes())
    content[5 * 245 * 16 * 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match="is damaged"):
        cache.fill(loaded, squares, 8)[5]
    mended = cache.fill(loaded, squares, 8, verify=True)
    np.testing.assert_allclose(mended[5].astype(np.float32), whole.astype(np.float32), atol=1e-2)
    assert list(Shards(cache.folder, RecordForm("<f2", (245, 16))).damaged()) == []
