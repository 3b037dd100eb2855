"""Tokenizers unlike the phantom's, made here: byte-level ones, and one built as Llama-2's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from litegpt.answers import write_diagnoses, write_findings
from litegpt.prompts import INSTRUCTIONS, prompt_text
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

LLAMA_PIECES = ("><", "},", "}.", "</", "▁{", "▁<", ">.", ">,", "></", "{{")
"""Punctuation that is one token in Llama-2's vocabulary or may well be."""

_ALPHABET = "▁<>{}/.,:;()[]0123456789-"
_SPECIAL = ["<unk>", "<s>", "</s>"]


def _texts() -> list[str]:
    texts = [write_findings([(label, (1, 20, 30, 100)), (label, (2, 4, 56, 78))]) for label in LOCAL_LABELS]
    texts += [write_diagnoses([name]) for name in DIAGNOSES[:-1]]
    return [*texts, write_findings(()), write_diagnoses(())]


def byte_level(*, splits_digits: bool) -> PreTrainedTokenizerBase:
    """Byte-level BPE without tokens of its own for boxes; with digits apart as Llama-2's, or all merged."""
    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True)] if splits_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits_digits)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400 if splits_digits else 3000,
        min_frequency=1,
        show_progress=False,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def llama_shaped(pieces: Sequence[str] = LLAMA_PIECES) -> PreTrainedTokenizerBase:
    """BPE as in Llama-2's tokenizer.json: ▁ for blanks and before the text, byte fallback, no pre-tokenizer.

    Digits stay single, words are merged as far as a small vocabulary goes, and punctuation as asked for.

    Args:
        pieces: What is one token besides, the first to be merged first. A piece may hold anything.
    """
    vocabulary, merges = llama_vocabulary(pieces)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def llama_vocabulary(pieces: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens and merges: the pieces', then those learnt from words."""
    learnt = _word_merges()
    merges = [(piece[:end], piece[end]) for piece in pieces for end in range(1, len(piece))]
    merges = list(dict.fromkeys([*merges, *learnt]))
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted({letter for pair in merges for text in pair for letter in text} | set(_ALPHABET))
    tokens = [*_SPECIAL, *bytes_, *letters, *(left + right for left, right in merges)]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


@cache
def _word_merges() -> list[tuple[str, str]]:
    words = Tokenizer(models.BPE())
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[A-Za-z]+"), "removed", invert=True)
    trainer = trainers.BpeTrainer(vocab_size=260, min_frequency=2, show_progress=False)
    words.train_from_iterator([*_texts(), *map(prompt_text, INSTRUCTIONS.values())], trainer)
    return [(left, right) for left, right in json.loads(words.to_str())["model"]["merges"]]
