"""How fast radiographs are read: the engine beside transformers' ``generate``, in the same run.

    python benchmarks/inference.py            the phantom on the CPU; where there is a GPU also a 7B shape
    python benchmarks/inference.py --help

Tables go to standard error, JSON to standard output. docs/benchmarks.md says what the numbers mean.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if not __package__:  # run as a file; Python then looks for modules beside it only
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from benchmarks.comparison import Comparison
    from litegpt.radiograph import Radiograph

app = typer.Typer(add_completion=False, rich_markup_mode="rich")
Item = TypeVar("Item")

screen = Console(stderr=True, highlight=False, soft_wrap=True)
paper = Console(stderr=True, highlight=False, width=200)  # tables stay whole, to be copied


class Model(StrEnum):
    """What can be measured."""

    PHANTOM = "phantom"
    PAPER = "7b"
    SMALL = "small"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for.

    Attributes:
        models: To be measured, one after the other.
        batches: Images at once.
        rounds: How often everybody is measured.
        device: Of the models with random weights.
        prompt_tokens, answer_tokens: Of these, for either prompt.
    """

    models: Sequence[Model]
    batches: Sequence[int]
    rounds: int
    device: str
    prompt_tokens: int
    answer_tokens: int


_LINES: Final = 10
"""Of progress, where there is no terminal."""

_INTERRUPTED: Final = 130
"""What a shell reports of a program that Ctrl-C ended."""

_EXAMPLES: Final = """Examples:

python benchmarks/inference.py --out benchmarks/results/my-machine.json

python benchmarks/inference.py --images 2 --rounds 1 [dim](does it run at all)[/dim]

python benchmarks/inference.py --model 7b --batches 1,8,32,128 [dim](on a GPU)[/dim]

python benchmarks/inference.py --model small --device cpu --images 4 [dim](7b's code without a GPU)[/dim]
"""


@app.command(epilog=_EXAMPLES)
def inference(
    model: Annotated[
        list[Model] | None,
        typer.Option(
            help="phantom: the shipped one, on the CPU. 7b: the paper's shape with random weights, on a GPU. "
            "small: the same at small widths, to try it out. May be given several times; by default phantom, "
            "and 7b where there is a GPU."
        ),
    ] = None,
    batches: Annotated[
        str, typer.Option(help="Images at once; on a GPU the largest that fits is added.")
    ] = "1,8,32,128",
    images: Annotated[
        int, typer.Option(min=1, help="Most images of a measurement; larger batches are cut to this.")
    ] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Each measures everybody once.")] = 5,
    device: Annotated[
        str | None, typer.Option(help="Of 7b and small: cuda:0, cpu; by default CUDA where there is one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch on the CPU; by default one for each core.")
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option(min=60, help="Of 7b and small: length of either prompt.")
    ] = 135,
    answer_tokens: Annotated[
        int, typer.Option(min=12, help="Of 7b and small: length of either answer.")
    ] = 60,
    radiographs: Annotated[
        Path | None,
        typer.Option(help="Folder of DICOM files; by default phantoms, drawn anew.", exists=True),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the phantoms and the random weights.")] = 20_000,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here, too.", dir_okay=False)] = None,
) -> None:
    """Measure images/s, tokens/s, memory and where the time goes, beside a peer and beside the limit.

    Everybody is measured in turn, round after round; figures are medians, in brackets the least and the most.
    Ctrl-C ends early and keeps what was measured.
    """
    wanted = _numbers(batches)

    import torch

    from benchmarks.machine import describe

    gpu = "cuda" if torch.cuda.is_available() else None
    models = model or [Model.PHANTOM, *([Model.PAPER] if gpu else [])]
    if Model.PAPER in models and not (device or gpu):
        raise typer.BadParameter("7b needs a GPU; --device cpu tries it without", param_hint="--model")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    with _files(radiographs, images, seed) as files:
        sizes = sorted({min(batch, len(files)) for batch in wanted})
        plan = Plan(models, sizes, rounds, device or gpu or "cpu", prompt_tokens, answer_tokens)
        result: dict[str, Any] = {
            "command": shlex.join(["python", "benchmarks/inference.py", *sys.argv[1:]]),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(),
            **_measure(plan, files),
        }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    typer.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if result["interrupted"]:
        raise typer.Exit(_INTERRUPTED)


def _measure(plan: Plan, files: Sequence[Path]) -> dict[str, Any]:
    """Makes all comparisons, or those that Ctrl-C leaves time for."""
    from benchmarks.report import as_json

    radiographs = _read(files)
    made: list[dict[str, Any]] = []
    interrupted = False
    for model in plan.models:
        comparison = None
        try:
            with screen.status(f"setting up {model}"):
                comparison = _comparison(model, plan, files, radiographs)
            _run(comparison, plan.rounds)
        except KeyboardInterrupt:
            interrupted = True
        if comparison is not None and comparison.rounds.measured:
            _show(comparison)
            made.append(as_json(comparison))
        if interrupted:
            screen.print("\nInterrupted: only what was measured before.")
            break
    return {"interrupted": interrupted, "comparisons": made}


def _comparison(
    model: Model, plan: Plan, files: Sequence[Path], radiographs: Sequence[Radiograph]
) -> Comparison:
    from benchmarks.phantom_comparison import phantom_comparison
    from benchmarks.random_comparison import random_comparison
    from benchmarks.random_model import PAPER, SMALL

    if model is Model.PHANTOM:
        return phantom_comparison(files, radiographs, plan.batches)
    name, shape = ("7B shape", PAPER) if model is Model.PAPER else ("small shape", SMALL)
    return random_comparison(
        name,
        shape,
        files,
        radiographs,
        plan.batches,
        device=plan.device,
        prompt_tokens=plan.prompt_tokens,
        answer_tokens=plan.answer_tokens,
    )


def _run(comparison: Comparison, rounds: int) -> None:
    entries = len(comparison.rounds.entries)
    _follow(f"{comparison.model}: warming up", comparison.rounds.warm_up(), entries)
    _follow(f"{comparison.model}: measuring", comparison.rounds.run(rounds), rounds * entries)


def _show(comparison: Comparison) -> None:
    from benchmarks.report import tables

    for part in tables(comparison):
        paper.print(part, soft_wrap=isinstance(part, str))


@contextmanager
def _files(radiographs: Path | None, images: int, seed: int) -> Iterator[list[Path]]:
    """At most so many DICOM files: a folder's, or phantoms drawn for now."""
    if radiographs is not None:
        files = sorted(path for path in radiographs.iterdir() if path.is_file())[:images]
        if not files:
            raise typer.BadParameter(f"{radiographs} has no files", param_hint="--radiographs")
        yield files
        return
    from training.phantom.collection import fresh_phantoms, write_collection

    with tempfile.TemporaryDirectory() as folder:
        drawn = write_collection(fresh_phantoms(images, seed), Path(folder))
        yield _follow("drawing phantoms", drawn, images)


def _read(files: Sequence[Path]) -> list[Radiograph]:
    from litegpt.errors import RadiographError
    from litegpt.radiograph import read_radiograph

    radiographs = []
    for file in files:
        try:
            radiographs.append(read_radiograph(file))
        except (RadiographError, OSError) as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--radiographs") from None
    return radiographs


def _numbers(text: str) -> list[int]:
    """Comma-separated whole numbers from 1 on."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise typer.BadParameter(f"{text!r} is not a list such as 1,8,32", param_hint="--batches")
    return numbers


def _follow(what: str, items: Iterable[Item], total: int) -> list[Item]:
    """Goes through items with a bar, or, where there is no terminal, a line now and then."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    found: list[Item] = []
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        for item in bar.track(items, total=total, description=what):
            found.append(item)
            if not screen.is_terminal and len(found) % max(1, total // _LINES) == 0:
                screen.print(f"{what}: {len(found)} of {total}")
    return found


if __name__ == "__main__":
    app()
