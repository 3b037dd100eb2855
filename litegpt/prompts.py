"""The two prompts as the published code wraps them, and their tokens around the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from litegpt.errors import ModelError

IDENTIFY: Final = "identify"
VQA: Final = "vqa"

INSTRUCTIONS: Final = {
    IDENTIFY: (
        "[identify] please describe this image in details with radiological features. "
        "List local diseases with localized bounding boxes."
    ),
    VQA: (
        "[vqa] Given the provided chest X-ray image, which of the following diagnoses are present (select "
        "all that apply): COPD, Lung Tumor, Pneumonia, Tuberculosis, Other Disease, or No Finding?"
    ),
}
"""By tag. The paper's own ``[identify]`` wording is not published; this is the local part of the released
``[grounding]`` instruction. The ``[vqa]`` text is the released one."""

IMAGE_PLACE: Final = "<ImageHere>"
_WRAPPER: Final = "[INST] <Img>" + IMAGE_PLACE + "</Img> {instruction}  [/INST]"


def prompt_text(instruction: str) -> str:
    """The prompt with the image's place in it; two blanks before ``[/INST]``, as in training upstream."""
    return _WRAPPER.format(instruction=instruction)


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Token ids before and after the 49 image embeddings.

    Attributes:
        before: (1, length), begins with the only BOS.
        after: (1, length).
    """

    before: torch.Tensor
    after: torch.Tensor


def tokenise_prompt(tokenizer: PreTrainedTokenizerBase, instruction: str) -> PromptTokens:
    """Cuts the prompt at the image's place and tokenises each side on its own, without special tokens.

    Raises:
        ModelError: If the instruction has a place for an image itself, or the tokenizer has no BOS.
    """
    if IMAGE_PLACE in instruction:
        raise ModelError(f"an instruction must not contain {IMAGE_PLACE}: {instruction}")
    if not isinstance(tokenizer.bos_token_id, int):
        raise ModelError("the tokenizer has no token for the beginning of a prompt")
    left, right = prompt_text(instruction).split(IMAGE_PLACE)
    before = [tokenizer.bos_token_id, *tokenizer.encode(left, add_special_tokens=False)]
    after = tokenizer.encode(right, add_special_tokens=False)
    return PromptTokens(torch.tensor([before]), torch.tensor([after]))
