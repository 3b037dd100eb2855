"""The tensor that both encoders see, against torchvision's own transforms (what the published code uses)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from litegpt.errors import ModelError
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from litegpt.radiograph import Radiograph


def picture(rows: int, columns: int) -> Radiograph:
    rng = np.random.default_rng(rows * 10_000 + columns)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8))
    return Radiograph(np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("shape", [(224, 224), (900, 700), (100, 1500), (37, 51), (1, 5), (2500, 2048)])
def test_agrees_with_torchvision(shape: tuple[int, int]) -> None:
    radiograph = picture(*shape)
    transform = v2.Compose(
        [
            v2.Resize((224, 224), interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    expected = transform(Image.fromarray(radiograph.pixels).convert("RGB"))
    (tensor,) = Preprocessing()([radiograph])
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor, expected, atol=1e-5, rtol=1e-5)


def test_images_of_several_sizes_become_one_tensor() -> None:
    tensor = Preprocessing(size=32)([picture(50, 60), picture(224, 100)])
    assert tensor.shape == (2, 3, 32, 32)


def test_survives_json() -> None:
    preprocessing = Preprocessing(size=336, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


def test_another_interpolation_is_refused() -> None:
    with pytest.raises(ModelError, match=r"preprocessing\.interpolation 'nearest' is not supported"):
        Preprocessing.from_json({**Preprocessing().to_json(), "interpolation": "nearest"})
