"""The phantom's tokenizer: byte-level BPE over the vocabulary of prompts and answers, one token per number.

With one token for each of ``<0>`` to ``<100>`` a box costs four tokens, and near numbers can be taught as
near. The paper's Llama-2 tokenizer splits numbers into digits instead; nothing else knows the difference.
"""

from __future__ import annotations

from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from litegpt.answers import write_diagnoses, write_findings
from litegpt.boxes import GRID
from litegpt.prompts import IMAGE_PLACE, INSTRUCTIONS, prompt_text
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

BOS: Final = "<s>"
EOS: Final = "</s>"
PAD: Final = "<pad>"
_MARKERS: Final = ("[INST]", "[/INST]", "<Img>", "</Img>", "[identify]", "[vqa]", "<p>", "</p>")


def number_token(number: int) -> str:
    """The token of one grid coordinate."""
    return f"<{number}>"


def phantom_tokenizer() -> PreTrainedTokenizerFast:
    """Builds the tokenizer; always the same one. Any text round-trips, as bytes are its alphabet."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=1,
        show_progress=False,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    added = [*_MARKERS, *(number_token(number) for number in range(GRID + 1))]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> list[str]:
    """Every word of the prompts and answers, without the markers that are tokens of their own."""
    texts = [prompt_text(instruction) for instruction in INSTRUCTIONS.values()]
    texts += [write_diagnoses(DIAGNOSES[:-1]), write_diagnoses(()), write_findings(())]
    texts += [write_findings([(label, (1, 2, 3, 4)), (label, (1, 2, 3, 4))]) for label in LOCAL_LABELS]
    for marker in (*_MARKERS, IMAGE_PLACE, *(number_token(number) for number in range(5))):
        texts = [text.replace(marker, "\n") for text in texts]
    return [piece for text in texts for piece in text.split("\n") if piece]
