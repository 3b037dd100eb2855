"""What it costs to hold answers to their grammar: the phantom's decoding steps with and without, in one run.

    python benchmarks/grammar.py                  a table to standard error, JSON to standard output
    python benchmarks/grammar.py --threads 1      on a machine that others use, too

A step is the model's forward pass for one token of each answer, the choice of the next tokens, and what the
loop does besides. All choosers take turns, round after round, over the same images; figures are medians over
all steps. No answer leaves the batch, so that every step has as many rows.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Annotated, Any, Final

import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from litegpt.constraint import Choice, Chooser, Unconstrained, constrained
from litegpt.decoding import Prefix
from litegpt.grammar import compile_grammar
from litegpt.model_folder import LiteGPT
from litegpt.phantoms import phantom_files
from litegpt.preprocessing import prepare, squash
from litegpt.prompts import IDENTIFY, tokenise_prompt
from litegpt.radiograph import read_radiograph

FREE: Final = "free"
BATCHES: Final = (1, 8, 32)
STEPS: Final = 64


@dataclass(slots=True)
class Times:
    """Seconds by step, of one chooser at one batch size; ``steps`` include ``choices``."""

    steps: list[float] = field(default_factory=list)
    choices: list[float] = field(default_factory=list)


class Timed:
    """A chooser with a clock, none of whose rows ever ends."""

    def __init__(self, chooser: Chooser, times: Times) -> None:
        self._chooser = chooser
        self._times = times
        self._last: float | None = None

    @property
    def ended(self) -> torch.Tensor:
        """(rows,)"""
        return torch.zeros_like(self._chooser.ended)

    def choose(self, logits: torch.Tensor, remaining: int) -> Choice:
        """Also notes how long ago the choice before was begun, and how long this one takes."""
        start = _now(logits)
        if self._last is not None:
            self._times.steps.append(start - self._last)
        choice = self._chooser.choose(logits, remaining)
        self._times.choices.append(_now(logits) - start)
        self._last = start
        return choice

    def keep(self, rows: torch.Tensor) -> None:
        """Never asked for."""
        self._chooser.keep(rows)


class Subject:
    """The phantom, its images taken in, and who may choose its tokens."""

    def __init__(self, device: str) -> None:
        self._loaded = LiteGPT.from_pretrained("phantom", device=device)
        self._device = device
        tokenizer = self._loaded.tokenizer
        self._pad = int(tokenizer.pad_token_id)
        eos = int(tokenizer.eos_token_id)
        self.choosers: dict[str, Callable[[int], Chooser]] = {
            FREE: lambda rows: Unconstrained(rows, eos=eos, pad=self._pad, device=device)
        }
        for name, ordered in (("ordered", True), ("unordered", False)):
            grammar = compile_grammar(tokenizer, budget=STEPS, ordered=ordered, device=device)
            self.choosers[name] = partial(constrained, grammar, [IDENTIFY])
        preprocessings = self._loaded.preprocessings
        squashed = [squash(preprocessings, read_radiograph(file)) for file in phantom_files()]
        images = prepare(preprocessings, squashed, device)  # each (images, 3, size, size)
        prompt = tokenise_prompt(tokenizer, self._loaded.config.instructions[IDENTIFY])
        embedded = self._loaded.model.image_embeddings(images)  # (images, 49, embedding)
        before = self._loaded.model.embed_tokens(prompt.before.to(device))  # (1, before, embedding)
        self._prefix = torch.cat([before.expand(len(embedded), -1, -1), embedded], dim=1)
        self._after = prompt.after[0].tolist()

    def decode(self, batch: int, chooser: str, times: Times) -> None:
        """Decodes ``STEPS`` tokens of the answers about ``batch`` images, some of them perhaps the same."""
        images = torch.arange(batch, device=self._device) % len(self._prefix)  # (batch,)
        prefix = Prefix(self._loaded.model.language_model, self._prefix[images])
        decoder = prefix.ask(range(batch), [self._after] * batch)
        decoder.generate(Timed(self.choosers[chooser](batch), times), budget=STEPS, pad=self._pad)


@torch.inference_mode()
def main(
    rounds: Annotated[int, typer.Option(help="How often every chooser takes its turn.", min=1)] = 10,
    threads: Annotated[int | None, typer.Option(help="PyTorch's threads.", min=1)] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
) -> None:
    """Measures and prints."""
    if threads is not None:
        torch.set_num_threads(threads)
    subject = Subject(device)
    times = {(batch, name): Times() for batch in BATCHES for name in subject.choosers}
    for batch, name in times:
        subject.decode(batch, name, Times())  # does not count
    load = []
    for number in range(rounds):
        load.append(os.getloadavg()[0])
        for batch, name in reversed(times) if number % 2 else times:
            subject.decode(batch, name, times[batch, name])
    rows = [_figures(batch, name, times) for batch, name in times]
    Console(stderr=True, width=120).print(_table(rows))
    machine = {"processor": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    settings = {"device": device, "threads": torch.get_num_threads(), "rounds": rounds, "load_average": load}
    print(json.dumps({**settings, **machine, **versions, "figures": rows}, indent=2))


def _now(logits: torch.Tensor) -> float:
    """Once the device has done all it was asked for."""
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)
    return time.perf_counter()


def _figures(batch: int, name: str, times: dict[tuple[int, str], Times]) -> dict[str, Any]:
    own, free = times[batch, name], times[batch, FREE]
    step, choice = median(own.steps), median(own.choices)
    return {
        "batch": batch,
        "answers": name,
        "step_milliseconds": 1e3 * step,
        "choice_microseconds": 1e6 * choice,
        "choice_part_of_step": choice / step,
        "more_than_free_part_of_step": (choice - median(free.choices)) / step,
        "step_against_free": step / median(free.steps),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    heads = ("batch", "answers", "step, ms", "choice, µs", "of step", "more than free", "step / free step")
    table = Table(*heads, box=MARKDOWN)
    for row in rows:
        table.add_row(
            str(row["batch"]),
            row["answers"],
            f"{row['step_milliseconds']:.2f}",
            f"{row['choice_microseconds']:.0f}",
            f"{row['choice_part_of_step']:.1%}",
            f"{row['more_than_free_part_of_step']:.1%}",
            f"{row['step_against_free']:.2f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
