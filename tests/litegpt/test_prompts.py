"""The instructions, letter by letter, and their tokens around the image."""

from __future__ import annotations

import pytest

from litegpt.errors import ModelError
from litegpt.identity import model_folder
from litegpt.model_config import read_config
from litegpt.prompts import (
    GROUNDING,
    IDENTIFY,
    IMAGE_PLACE,
    INSTRUCTION_POOL,
    INSTRUCTIONS,
    VQA,
    prompt_text,
    tokenise_prompt,
)
from litegpt.tokenizer import phantom_tokenizer

PUBLISHED_1 = (
    "[grounding] please describe this image in details with radiological features. Use two sentences unless "
    "there are no findings. The first sentence should list the global diseases present in the image, and the "
    "second should list local diseases with localized bounding boxes."
)
PUBLISHED_3 = (
    "[grounding] This is a radiological image of a chest x-ray from a Posterior Anterior view. Examine "
    "all the areas where the lung borders the diaphragm, the heart and other mediastinal structures. "
    "Please describe this image in details with radiological features. Use two sentences unless there are "
    "no findings. The first sentence should list the global diseases present in the image, and the second "
    "should list local diseases with localized bounding boxes."
)


def test_the_released_instructions() -> None:
    steps = " Let's think step by step."
    released = (PUBLISHED_1, PUBLISHED_1 + steps, PUBLISHED_3, PUBLISHED_3 + steps)
    assert INSTRUCTION_POOL[GROUNDING] == released


def test_what_a_model_is_asked() -> None:
    """The shipped model was trained with these."""
    assert read_config(model_folder("phantom")).instructions == INSTRUCTIONS
    assert INSTRUCTIONS[VQA] == (
        "[vqa] Given the provided chest X-ray image, which of the following diagnoses are present (select "
        "all that apply): COPD, Lung Tumor, Pneumonia, Tuberculosis, Other Disease, or No Finding?"
    )


@pytest.mark.parametrize("tag", [GROUNDING, IDENTIFY, VQA])
def test_every_instruction_has_its_tag_once_and_is_unlike_the_others(tag: str) -> None:
    for instruction in INSTRUCTION_POOL[tag]:
        assert instruction.startswith(f"[{tag}] ") and instruction.count("[") == 1
    assert len(set(INSTRUCTION_POOL[tag])) == len(INSTRUCTION_POOL[tag])


@pytest.mark.parametrize("tag", [GROUNDING, IDENTIFY, VQA])
def test_a_prompt_has_one_bos_and_is_cut_at_the_image(tag: str) -> None:
    tokenizer = phantom_tokenizer()
    for instruction in INSTRUCTION_POOL[tag]:
        tokens = tokenise_prompt(tokenizer, instruction)
        ids = [*tokens.before[0].tolist(), *tokens.after[0].tolist()]
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        said = f"{tokenizer.decode(tokens.before[0])}{IMAGE_PLACE}{tokenizer.decode(tokens.after[0])}"
        assert said == f"<s>{prompt_text(instruction)}"
        assert said == f"<s>[INST] <Img><ImageHere></Img> {instruction}  [/INST]"


def test_an_instruction_with_a_place_for_another_image_is_refused() -> None:
    with pytest.raises(ModelError, match="must not contain <ImageHere>"):
        tokenise_prompt(phantom_tokenizer(), "[vqa] What is in <ImageHere>?")
