"""What a step of training waits for: images decoded each time, cached images, cached tokens, in the same run.

    python benchmarks/training.py            the phantom on the CPU; where there is a GPU also a 7B shape
    python benchmarks/training.py --help

The limit is that of the arithmetic: FLOPs of learning from one image, forwards and backwards, as PyTorch
counts them, against what the device attains. Gradient checkpointing, where the recipe has it, is not counted:
what it computes twice need not be. Tables go to standard error, JSON to standard output.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a file; Python then looks for modules beside it only
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from benchmarks.training_steps import Way
    from litegpt.model_folder import LiteGPT
    from training.recipe import Recipe

app = typer.Typer(add_completion=False)
screen = Console(stderr=True, highlight=False, soft_wrap=True)


class Model(StrEnum):
    """What can be trained."""

    PHANTOM = "phantom"
    PAPER = "7b"
    SMALL = "small"


@app.command()
def training(
    model: Annotated[
        list[Model] | None,
        typer.Option(help="phantom; 7b: random weights of the paper's shape; small: the same, small."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Phantoms to write as DICOM and learn from.")] = 96,
    steps: Annotated[int, typer.Option(min=1, help="Of each way in each round.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Each measures every way once.")] = 5,
    device: Annotated[
        str | None, typer.Option(help="Of 7b and small; default: CUDA where there is one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch on the CPU; default: one a core.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here, too.", dir_okay=False)] = None,
) -> None:
    """Measure where the time of a training step goes, three ways in turn; figures are medians over rounds.

    Example: python benchmarks/training.py --model phantom --rounds 5 --out benchmarks/results/training.json

    Example: python benchmarks/training.py --model 7b --steps 10

    Example: python benchmarks/training.py --model small --images 8 --steps 1 --rounds 2
    """
    import torch

    from benchmarks.machine import describe, load_average
    from training.phantom.collection import fresh_phantoms, write_collection

    gpu = "cuda" if torch.cuda.is_available() else None
    if threads is not None:
        torch.set_num_threads(threads)
    models = model or [Model.PHANTOM, *([Model.PAPER] if gpu else [])]
    if Model.PAPER in models and not (device or gpu):
        raise typer.BadParameter("7b needs a GPU; --device cpu tries it without", param_hint="--model")
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/training.py", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "models": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "phantoms"
        with screen.status("writing phantoms"):
            list(write_collection(fresh_phantoms(images, 20_001), written))
        for one in models:
            place = "cpu" if one is Model.PHANTOM else device or gpu or "cpu"
            result["models"].append(
                _measured(one, place, written, Path(folder) / f"cache-{one}", steps, rounds)
            )
    result["load_average"] = load_average()
    text = json.dumps(result, indent=2, ensure_ascii=False)
    typer.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


def _measured(
    model: Model, device: str, images: Path, caches: Path, steps: int, rounds: int
) -> dict[str, Any]:
    import torch

    from benchmarks.machine import attainable
    from benchmarks.training_steps import TimedTraining, ways
    from training.peak_memory import PeakMemory
    from training.study.cost import flops_per_image, trained_parameters

    with screen.status(f"setting up {model}") as status:
        loaded, recipe = _start(model, device)
        asked = ways(loaded, recipe, images, caches, status.update)
        trained = trained_parameters(loaded, recipe)
        # The uncached way's lessons have images, so the encoders' part is counted.
        flops = flops_per_image(loaded, recipe, asked[0].lessons)
        timed = TimedTraining(loaded, recipe, device)
        for way in asked:  # a round to warm up
            timed.measure(way, 1, rounds)
            for seconds in way.seconds.values():
                seconds.clear()
        memory = PeakMemory(device)
        memory.reset()
        for number in range(rounds):
            for way in asked:
                status.update(f"{model}: round {number + 1} of {rounds}, {way.name}")
                timed.measure(way, steps, number)
    peak, source = attainable(device, torch.bfloat16 if recipe.precision == "bf16" else torch.float32)
    by_length, by_chance = timed.waste(asked[0].lessons)
    values = {
        "model": model.value,
        "device": device,
        "recipe": recipe.stage,
        "batch_size": recipe.batch_size,
        "trained_parameters": trained,
        "flops_per_image": flops,
        "limit_images_per_second": peak.flops / flops,
        "limit_from": source,
        "peak_memory_bytes": memory.bytes(),
        "padding_by_length": by_length,
        "padding_by_chance": by_chance,
        "ways": [_way(way, recipe.batch_size) for way in asked],
    }
    _show(values)
    return values


def _start(model: Model, device: str) -> tuple[LiteGPT, Recipe]:
    """The model, with an adapter, and the recipe of its first stage."""
    from dataclasses import replace

    import torch

    from benchmarks.random_model import PAPER, SMALL, random_model
    from litegpt.identity import model_folder
    from litegpt.model_folder import add_adapter
    from training.recipe import read_recipe
    from training.start import load_start

    if model is Model.PHANTOM:
        recipe = read_recipe("phantom/grounding")
        return load_start(model_folder("phantom"), recipe), recipe
    shape = PAPER if model is Model.PAPER else SMALL
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    loaded = random_model(shape, dtype=dtype, device=device, prompt_tokens=135, answer_tokens=60)
    add_adapter(loaded.model)
    loaded.model.to(device)
    return replace(loaded, config=replace(loaded.config, has_adapter=True)), read_recipe("paper/grounding")


def _way(way: Way, batch_size: int) -> dict[str, Any]:
    return {
        "way": way.name,
        "images_per_second": batch_size / way.step_seconds(),
        "step_seconds": way.step_seconds(),
        "encoders_share": way.encoders_share(),
        "parts": {part: median(seconds) for part, seconds in way.seconds.items()},
        "rounds": way.seconds,
    }


def _show(values: dict[str, Any]) -> None:
    title = f"{values['model']}, {values['recipe']}, batch {values['batch_size']}, {values['device']}"
    table = Table("way", "images/s", "ms a step", "data", "encode", "learn", "update", title=title)
    for way in values["ways"]:
        parts = [f"{1e3 * seconds:.1f}" for seconds in way["parts"].values()]
        speed = f"{way['images_per_second']:.1f}", f"{1e3 * way['step_seconds']:.1f}"
        table.add_row(way["way"], *speed, *parts)
    screen.print(table)
    shares = ", ".join(f"{way['encoders_share']:.1%}" for way in values["ways"])
    screen.print(f"The encoders' share of a step: {shares}.")
    screen.print(
        f"{values['flops_per_image'] / 1e9:.2f} GFLOP an image: at most"
        f" {values['limit_images_per_second']:.1f} images/s ({values['limit_from']})."
    )
    if (memory := values["peak_memory_bytes"]) is not None:
        screen.print(f"Memory: {memory / 1e9:.2f} GB at most, in this process.")
    screen.print(
        f"Padding of answers: {values['padding_by_length']:.1%} with answers of like length together,"
        f" {values['padding_by_chance']:.1%} by chance."
    )


if __name__ == "__main__":
    app()
