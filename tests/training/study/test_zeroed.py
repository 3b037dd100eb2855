"""Encoders whose tokens are zero when a model is asked."""

from __future__ import annotations

import pytest
import torch

from litegpt.engine import Engine
from litegpt.identity import model_folder
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from tests.litegpt.tiny_models import tiny_model
from training.errors import TrainingError
from training.study.zeroed import engine_without, silence

IMAGES = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("zeroed", [(0,), (1,), (0, 1), ()])
def test_only_the_named_encoder_s_tokens_are_zero(zeroed: tuple[int, ...]) -> None:
    network, untouched = tiny_model().model, tiny_model().model
    silence(network, zeroed)
    with torch.inference_mode():
        found = network.visual_tokens([IMAGES])  # (2, 196 + 49, width)
        first, second = (encoder(IMAGES) for encoder in untouched.encoders)
    expected = torch.cat([first * (0 not in zeroed), second * (1 not in zeroed)], dim=1)
    assert torch.equal(found, expected)


def test_without_any_encoder_the_shipped_model_says_the_same_of_all_images() -> None:
    radiographs = [read_radiograph(path) for path in phantom_files()[:3]]
    folder = model_folder("phantom")
    blind, half, whole = (
        engine_without(folder, zeroed, device="cpu").read(radiographs) for zeroed in ((0, 1), (0,), ())
    )
    assert all(reading.answers == blind[0].answers for reading in blind)
    assert any(reading.answers != whole[0].answers for reading in whole)
    assert [one.answers for one in half] != [one.answers for one in whole]
    as_it_is = Engine.load("phantom", device="cpu", calibrated=False).read(radiographs)
    assert [one.answers for one in whole] == [one.answers for one in as_it_is]


def test_a_third_of_two_encoders_is_refused() -> None:
    with pytest.raises(TrainingError, match="the model has 2 encoders, none is 2"):
        silence(tiny_model().model, (2,))
