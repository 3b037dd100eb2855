"""The two prompts as the published code wraps them, and their tokens around the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from litegpt.errors import ModelError

GROUNDING: Final = "grounding"
IDENTIFY: Final = "identify"
VQA: Final = "vqa"

_DESCRIBE: Final = "please describe this image in details with radiological features."
_EXAMINE: Final = (
    "This is a radiological image of a chest x-ray from a Posterior Anterior view. Examine all the areas "
    "where the lung borders the diaphragm, the heart and other mediastinal structures."
)
_STEP_BY_STEP: Final = "Let's think step by step."


def _forms(tag: str, request: str) -> tuple[str, ...]:
    plain = f"[{tag}] {_DESCRIBE} {request}"
    examining = f"[{tag}] {_EXAMINE} {_DESCRIBE.capitalize()} {request}"
    return plain, f"{plain} {_STEP_BY_STEP}", examining, f"{examining} {_STEP_BY_STEP}"


INSTRUCTION_POOL: Final = {
    GROUNDING: _forms(
        GROUNDING,
        "Use two sentences unless there are no findings. The first sentence should list the global diseases "
        "present in the image, and the second should list local diseases with localized bounding boxes.",
    ),
    IDENTIFY: _forms(IDENTIFY, "List local diseases with localized bounding boxes."),
    VQA: (
        "[vqa] Given the provided chest X-ray image, which of the following diagnoses are present (select "
        "all that apply): COPD, Lung Tumor, Pneumonia, Tuberculosis, Other Disease, or No Finding?",
    ),
}
"""By tag, the texts that training may draw from; the first is the plain one.

``[grounding]``, answered by a report (``litegpt.answers.write_report``), has the released texts 1 to 4. The
released pool goes on with two more, for the global sentence alone, of which a missing comma makes one string
with two tags, and whose answers are reports all the same; both are left out. ``[identify]``: the paper's own
wording is not published, this is the local part of each of the four. ``[vqa]`` is the released text.
"""

INSTRUCTIONS: Final = {tag: INSTRUCTION_POOL[tag][0] for tag in (IDENTIFY, VQA)}
"""By tag, what a model is asked where its folder says nothing else."""

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
