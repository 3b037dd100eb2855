"""What is compared: the engine, and transformers' ``generate`` used as the published code uses it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import torch
from torch import nn

from litegpt.answers import read_diagnoses, read_findings
from litegpt.engine import Engine
from litegpt.grammar import Grammar
from litegpt.language_model import lora_config, wrap
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import prepare, squash
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph
from litegpt.stopwatch import Stopwatch

Answers = Mapping[str, str]
"""Of one image, by the prompt's tag."""

_PARSERS: Final = {IDENTIFY: read_findings, VQA: read_diagnoses}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of some answers, each one's end included.

    Attributes:
        said: All.
        stepped: Those that had a step of decoding of their own. The others are given by the grammar, several
            in a pass: how every answer begins, and answers that are scored at once instead of decoded.
    """

    said: int
    stepped: int


class Contender(Protocol):
    """Something that reads radiographs."""

    name: str
    batch: int
    stopwatch: Stopwatch

    @property
    def fits(self) -> bool:
        """Whether memory has been enough for the batch so far."""
        ...

    def read(self, radiographs: Sequence[Radiograph]) -> list[Answers]:
        """Both answers about each image."""
        ...

    def tokens(self, answers: Sequence[Answers]) -> Tokens:
        """How many these answers have."""
        ...


class EngineContender:
    """The engine: as the product uses it, or with free answers, which is just what ``generate`` does."""

    def __init__(self, loaded: LiteGPT, device: str, grammar: Grammar | None, batch: int) -> None:
        """Args:
        loaded: The model, on its device.
        device: Which that is.
        grammar: What answers are held to; without one they are free, and no label is scored.
        batch: Images at once.
        """
        self.name = "litegpt" if grammar is not None else "litegpt, free"
        self.batch = batch
        self.stopwatch = Stopwatch()
        self._engine = Engine(
            loaded,
            device,
            grammar,
            None if grammar is None else loaded.config.operating_point,
            stopwatch=self.stopwatch,
            batch_size=batch,
        )
        self._loaded = loaded
        self._scored = {VQA} if grammar is not None and grammar.ordered else set()
        self._openings = {tag: 0 if grammar is None else len(grammar.opening(tag)[0]) for tag in _PARSERS}

    @property
    def fits(self) -> bool:
        """Whether memory has been enough for the batch so far."""
        return self._engine.batch_size == self.batch

    def read(self, radiographs: Sequence[Radiograph]) -> list[Answers]:
        """Both answers about each image."""
        return [reading.answers for reading in self._engine.read(radiographs)]

    def tokens(self, answers: Sequence[Answers]) -> Tokens:
        """Counted by tokenising again: within the grammar there is one way only."""
        said = stepped = 0
        for each in answers:
            for tag, text in each.items():
                count = answer_tokens(self._loaded, text)
                said += count
                if tag not in self._scored:
                    stepped += count - self._openings[tag]
        return Tokens(said, stepped)


class GenerateContender:
    """``generate`` for one prompt after the other, images encoded again for each, answers free.

    Greedy, KV cache on; a batch goes on until its last answer has ended.
    """

    name = "generate"

    def __init__(
        self,
        loaded: LiteGPT,
        device: str,
        batch: int,
        *,
        adapter: bool = False,
        answer_tokens: int | None = None,
    ) -> None:
        """Args:
        loaded: The model, on its device; its weights are shared, not copied.
        device: Which that is.
        batch: Images at once.
        adapter: Whether to decode with an unmerged LoRA adapter, a fresh one, whose effect is zero.
        answer_tokens: Length that every answer is held to; by default they end where they end.
        """
        self.batch = batch
        self.stopwatch = Stopwatch()
        self._loaded = loaded
        self._device = device
        self._dtype = next(loaded.model.parameters()).dtype
        network = loaded.model
        self._language_model = unmerged(network.language_model) if adapter else network.language_model
        self._lengths = {"max_new_tokens": answer_tokens or loaded.config.max_new_tokens}
        if answer_tokens is not None:
            self._lengths["min_new_tokens"] = answer_tokens
        self._prompts = {
            tag: tokenise_prompt(loaded.tokenizer, loaded.config.instructions[tag]) for tag in _PARSERS
        }

    @property
    def fits(self) -> bool:
        """It would fail otherwise."""
        return True

    @torch.inference_mode()
    def read(self, radiographs: Sequence[Radiograph]) -> list[Answers]:
        """Both answers about each image."""
        answers: list[Answers] = []
        for start in range(0, len(radiographs), self.batch):
            answers += self._read_batch(radiographs[start : start + self.batch])
        return answers

    def tokens(self, answers: Sequence[Answers]) -> Tokens:
        """Counted by tokenising again, or known where the length is given."""
        if "min_new_tokens" in self._lengths:
            said = sum(len(each) for each in answers) * self._lengths["min_new_tokens"]
        else:
            said = sum(answer_tokens(self._loaded, text) for each in answers for text in each.values())
        return Tokens(said, said)

    def _read_batch(self, radiographs: Sequence[Radiograph]) -> list[Answers]:
        preprocessings = self._loaded.preprocessings
        with self.stopwatch.stage("squash"):
            images = [squash(preprocessings, radiograph) for radiograph in radiographs]
        with self.stopwatch.stage("prepare"):
            prepared = prepare(preprocessings, images, self._device)  # each (batch, 3, size, size)
            tensors = [tensor.to(self._dtype) for tensor in prepared]
        texts = [self._ask(tag, tensors) for tag in self._prompts]
        return [dict(zip(self._prompts, both, strict=True)) for both in zip(*texts, strict=True)]

    def _ask(self, tag: str, images: Sequence[torch.Tensor]) -> list[str]:
        with self.stopwatch.stage("encode"):
            embedded = self._loaded.model.image_embeddings(images)  # (batch, 49, embedding)
        with self.stopwatch.stage("generate"):
            prompt = self._loaded.model.embed_prompt(
                embedded, self._prompts[tag]
            )  # (batch, prompt, embedding)
            ids = cast(Any, self._language_model).generate(
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
                do_sample=False,
                **self._lengths,
            )  # (batch, longest answer)
        with self.stopwatch.stage("parse"):
            texts = self._loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)
            for text in texts:
                _PARSERS[tag](text)
        return texts


def answer_tokens(loaded: LiteGPT, text: str) -> int:
    """Tokens of an answer as the tokenizer writes it, with EOS unless the length limit came first."""
    written = loaded.tokenizer.encode(text, add_special_tokens=False)
    return min(len(written) + 1, loaded.config.max_new_tokens)


def unmerged(language_model: nn.Module) -> nn.Module:
    """The same weights, not copied, under a LoRA adapter that stays apart, in the weights' precision."""
    shared = {id(parameter): parameter for parameter in language_model.parameters()}
    wrapped = wrap(copy.deepcopy(language_model, cast(dict[int, Any], shared)), lora_config())
    dtype = next(language_model.parameters()).dtype
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return wrapped.eval().requires_grad_(False)
