"""The engine: radiographs of any size in, findings in their own pixels out, a whole batch at a time.

    engine = Engine.load("phantom")
    readings = engine.read([read_radiograph(path)])

Each image is encoded once and asked both questions in one batch. Decoding is greedy, so the same image always
gets the same answer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch

from litegpt.answers import ReadAnswer, ReadLabel, read_diagnoses, read_findings
from litegpt.boxes import Box
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity
from litegpt.model import left_pad
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import prepare
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import LABELS

_PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Building a transformers model changes torch's default dtype for a moment, for all threads.
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer as it was generated.

    Attributes:
        text: Decoded, without EOS.
        token_ends: For each token, where in ``text`` its characters end.
        token_probabilities: For each token, the model's probability of it, given all before it.
    """

    text: str
    token_ends: tuple[int, ...]
    token_probabilities: tuple[float, ...]

    def probability(self, start: int, end: int) -> float:
        """Probability of the text from character ``start`` to ``end``: product over its tokens."""
        product, token_start = 1.0, 0
        for token_end, probability in zip(self.token_ends, self.token_probabilities, strict=True):
            if token_start < end and start < token_end:
                product *= probability
            token_start = token_end
        return product


class Engine:
    """A loaded model that reads radiographs. ``read`` may be called by one thread at a time."""

    def __init__(self, loaded: LiteGPT, device: str) -> None:
        self._config = loaded.config
        self._model = loaded.model
        self._preprocessings = loaded.preprocessings
        self._tokenizer = loaded.tokenizer
        self._device = device
        self._dtype = next(loaded.model.parameters()).dtype
        instructions = loaded.config.instructions
        self._prompts = {tag: tokenise_prompt(loaded.tokenizer, instructions[tag]) for tag in (IDENTIFY, VQA)}

    @classmethod
    def load(
        cls, model: str | Path = "phantom", *, device: str | None = None, precision: str | None = None
    ) -> Engine:
        """Loads a model folder; safe to call from several threads at once.

        Args:
            model: ``"phantom"`` for the shipped demonstration, or a model folder.
            device: Such as ``cpu`` or ``cuda:0``; by default CUDA where there is one.
            precision: ``fp32``, ``bf16`` or ``fp16``; by default fp32 on the CPU, else bf16.

        Raises:
            ModelError: If the folder cannot be used, or device or precision make no sense here.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if chosen.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device {chosen} was asked for, but PyTorch finds no CUDA device")
        name = precision or ("fp32" if chosen == "cpu" else "bf16")
        if name not in _PRECISIONS:
            raise ModelError(f"precision {name!r} is not one of {', '.join(_PRECISIONS)}")
        with _loading:
            return cls(LiteGPT.from_pretrained(model, dtype=_PRECISIONS[name], device=chosen), chosen)

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks."""
        return self._config.identity

    def read(self, radiographs: Sequence[Radiograph]) -> list[Reading]:
        """Reads a batch, all of it at once.

        Args:
            radiographs: Display images of any sizes.

        Returns:
            One reading each, in the same order; boxes in pixels of each radiograph's own matrix.
        """
        if not radiographs:
            return []
        images = prepare(self._preprocessings, radiographs)  # each (batch, 3, size, size)
        answers = self._answer([image.to(self._device, self._dtype) for image in images])
        return [
            _reading(radiograph, identify, vqa)
            for radiograph, identify, vqa in zip(radiographs, answers[IDENTIFY], answers[VQA], strict=True)
        ]

    @torch.inference_mode()
    def _answer(self, images: Sequence[torch.Tensor]) -> dict[str, list[Generated]]:
        """Images, each (batch, 3, size, size), to the answers to each prompt."""
        batch = len(images[0])
        embeddings = self._model.image_embeddings(images)  # (batch, 49, embedding)
        asked = [self._model.embed_prompt(embeddings, prompt) for prompt in self._prompts.values()]
        inputs, mask = left_pad(asked)  # (2·batch, prompt, embedding), (2·batch, prompt)
        output = cast(Any, self._model.language_model).generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            max_new_tokens=self._config.max_new_tokens,
            do_sample=False,
            eos_token_id=self._tokenizer.eos_token_id,
            pad_token_id=self._padding,
            return_dict_in_generate=True,
            output_logits=True,
        )
        ids = output.sequences  # (2·batch, new)
        logits = torch.stack(output.logits, dim=1).float()  # (2·batch, new, vocabulary)
        probabilities = logits.softmax(dim=-1).gather(-1, ids[..., None])[..., 0]  # (2·batch, new)
        generated = [
            self._decode(sequence, chosen)
            for sequence, chosen in zip(ids.tolist(), probabilities.tolist(), strict=True)
        ]
        return {tag: generated[i * batch : (i + 1) * batch] for i, tag in enumerate(self._prompts)}

    @property
    def _padding(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(self._tokenizer.eos_token_id if pad is None else pad)

    def _decode(self, ids: list[int], probabilities: list[float]) -> Generated:
        if self._tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(self._tokenizer.eos_token_id)]
        # Prefix by prefix is right for every tokenizer, also where a token's text depends on its neighbours.
        texts = [str(self._tokenizer.decode(ids[:count])) for count in range(1, len(ids) + 1)]
        ends = tuple(len(text) for text in texts)
        return Generated(texts[-1] if texts else "", ends, tuple(probabilities[: len(ids)]))


def _reading(radiograph: Radiograph, identify: Generated, vqa: Generated) -> Reading:
    rows, columns = radiograph.pixels.shape
    local, overall = read_findings(identify.text), read_diagnoses(vqa.text)
    findings = [*_findings(local, identify, rows, columns), *_findings(overall, vqa, rows, columns)]
    findings.sort(key=_report_order)
    return Reading(
        findings=tuple(findings),
        answers={IDENTIFY: identify.text, VQA: vqa.text},
        malformed=local.malformed + overall.malformed,
    )


def _findings(answer: ReadAnswer, generated: Generated, rows: int, columns: int) -> list[Finding]:
    return [Finding(read.label, _score(read, generated), _box(read, rows, columns)) for read in answer.labels]


def _score(read: ReadLabel, generated: Generated) -> float:
    """Probability that this label is said here: of all tokens since the last statement, its name included."""
    return min(1.0, max(0.0, generated.probability(read.start, read.end)))


def _box(read: ReadLabel, rows: int, columns: int) -> Box | None:
    return None if read.box is None else Box.from_grid(read.box, columns, rows)


def _report_order(finding: Finding) -> tuple[bool, int, float, float]:
    """Boxes before diagnoses, the vocabulary's order, then top to bottom, left to right."""
    top, left = (finding.box.y_min, finding.box.x_min) if finding.box else (0.0, 0.0)
    return finding.box is None, LABELS.index(finding.label), top, left
