"""Training on the command line: ``litegpt-train pretrain``, ``grounding``, ``diagnosis`` and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.progress import TaskID, TextColumn

from training.errors import TrainingError
from training.inspect_command import DatasetName
from training.interruption import INTERRUPTED, interruptible
from training.progress_bar import progress_bar

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.stage import Material
    from training.training_log import Progress as Told

Out = Annotated[Path, typer.Option(help="The run's folder; made where it is missing.", file_okay=False)]
Start = Annotated[
    Path, typer.Option("--from", help="Model folder or earlier run to start from.", exists=True)
]
From = Annotated[
    Path | None, typer.Option("--from", help="Model folder or earlier run to start from.", exists=True)
]
Config = Annotated[
    str | None, typer.Option(help="Recipe: a YAML file, or a shipped one's name as paper/grounding.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another value, as optimiser.peak=1e-4.", metavar="NAME=VALUE"),
]
Mixture = Annotated[bool, typer.Option("--mixture", help="Teach both stages at once.")]
Dataset = Annotated[
    DatasetName | None,
    typer.Option(help="Kind of dataset to learn from; default: phantoms, drawn on the way."),
]
DataPath = Annotated[Path | None, typer.Option("--data", help="Where the dataset lies.", exists=True)]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the caches; default: ~/.cache/litegpt.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare images and batches.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Version = Annotated[str | None, typer.Option(help="The new model's version; default: that of the start.")]
Device = Annotated[str, typer.Option(help="auto: a GPU where there is one; or cpu.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor cores to use; default: all.")]


def pretrain(
    out: Out,
    config: Config = "phantom/pretraining",
    start: From = None,
    set_: Set = None,
    dataset: Dataset = None,
    data: DataPath = None,
    cache: Cache = None,
    workers: Workers = 1,
    resume: Resume = False,
    version: Version = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Before the paper's stages: teach the phantom preset's encoders and language model to see and speak.

    Example: litegpt-train pretrain --config phantom/encoders --out build/encoders

    Example: litegpt-train pretrain --config phantom/pretraining --from build/encoders --out build/pretrained
    """
    recipe = _recipe(config, "pretraining", start, set_)
    _train(recipe, out, start, _material(dataset, data, cache, workers), resume, version, device, threads)


def grounding(
    out: Out,
    start: Start,
    config: Config = None,
    mixture: Mixture = False,
    set_: Set = None,
    dataset: Dataset = None,
    data: DataPath = None,
    cache: Cache = None,
    workers: Workers = 1,
    resume: Resume = False,
    version: Version = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """The paper's stage 1: findings with boxes, asked with the tag identify; LoRA and projection.

    Without --config the recipe is that of the model's preset, paper or phantom.

    Example: litegpt-train grounding --from build/pretrained --out build/grounding

    Example: litegpt-train grounding --from minigpt-v2 --dataset vindr-cxr --data vindr/1.0.0 --out stage1

    Example: litegpt-train grounding --mixture --from build/pretrained --out build/both

    Several GPUs: torchrun --nproc-per-node 4 -m training.cli grounding --from … --out …
    """
    recipe = _recipe(config, "mixture" if mixture else "grounding", start, set_)
    _train(recipe, out, start, _material(dataset, data, cache, workers), resume, version, device, threads)


def diagnosis(
    out: Out,
    start: Start,
    config: Config = None,
    mixture: Mixture = False,
    set_: Set = None,
    dataset: Dataset = None,
    data: DataPath = None,
    cache: Cache = None,
    workers: Workers = 1,
    resume: Resume = False,
    version: Version = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """The paper's stage 2: diagnoses, asked with the tag vqa; LoRA and projection.

    Example: litegpt-train diagnosis --from build/grounding --out build/diagnosis

    The stages swapped: litegpt-train diagnosis --from build/pretrained …, then grounding --from that.
    """
    recipe = _recipe(config, "mixture" if mixture else "diagnosis", start, set_)
    _train(recipe, out, start, _material(dataset, data, cache, workers), resume, version, device, threads)


def phantom_model(
    out: Annotated[
        Path, typer.Option(help="Folder of all its runs; one that was stopped goes on.", file_okay=False)
    ],
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0,
    factor: Annotated[float, typer.Option(min=0, help="How many steps, against the recipes.")] = 1.0,
    version: Version = None,
    threads: Threads = None,
) -> None:
    """Train the phantom model from nothing: encoders, pretraining, grounding, diagnosis.

    Example: litegpt-train phantom-model --out build/phantom-model
    """
    from training.phantom_model import train_phantom_model

    use_threads(threads)
    with interruptible() as stop, progress() as report:
        folder = train_phantom_model(out, seed=seed, factor=factor, version=version, report=report, stop=stop)
    if folder is None:
        raise _stopped("the same command goes on")
    typer.echo(f"The model is {folder / 'last'}.")


def _recipe(config: str | None, stage: str, start: Path | None, values: Sequence[str] | None) -> Recipe:
    """The recipe that was asked for, or that of the start's preset, with other values."""
    from litegpt.model_config import read_config
    from training.recipe import read_recipe
    from training.run_folder import model_of

    if config is None:
        preset = "phantom" if start is None else read_config(model_of(start)).preset
        config = f"{preset}/{stage}"
    recipe = read_recipe(config)
    return recipe.with_values(dict(_value(text) for text in values)) if values else recipe


def _material(dataset: DatasetName | None, data: Path | None, cache: Path | None, workers: int) -> Material:
    """The dataset that was asked for, else phantoms."""
    from litegpt.cache_folder import default_cache_folder
    from training.dataset_course import DatasetCourse
    from training.stage import PHANTOMS, Material

    if (dataset is None) != (data is None):
        raise TrainingError("--dataset says what kind it is and --data where it lies: give both")
    if dataset is None or data is None:
        return PHANTOMS
    course = DatasetCourse(dataset.value, data, cache or default_cache_folder(), workers)
    return Material(f"{dataset.value} {data.resolve()}", course)


def _value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise TrainingError(f"--set {text}: write NAME=VALUE, as optimiser.peak=1e-4")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise TrainingError(f"--set {text}: the value is no YAML") from None


def _train(
    recipe: Recipe,
    out: Path,
    start: Path | None,
    material: Material,
    resume: bool,
    version: str | None,
    device: str,
    threads: int | None,
) -> None:
    from training.stage import train_stage

    use_threads(threads)
    with interruptible() as stop, progress() as report:
        finished = train_stage(
            out,
            recipe,
            start=start,
            material=material,
            resume=resume,
            version=version,
            device=device,
            report=report,
            stop=stop,
        )
    if not finished:
        raise _stopped("the same command with --resume goes on")
    typer.echo(f"The model is {out / 'last'}, the one with the lowest validation loss {out / 'best'}.")


def _stopped(how_to_go_on: str) -> typer.Exit:
    typer.echo(f"Stopped; all is saved: {how_to_go_on}.", err=True)
    return typer.Exit(INTERRUPTED)


def use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[Told], None]]:
    """A progress bar a stage, with loss, rate and time left; begun anew where the stage is."""
    how = "loss {task.fields[loss]:.3f}  rate {task.fields[rate]:.1e}  {task.fields[speed]:.1f} images/s"
    tasks: dict[str, TaskID] = {}
    last: dict[str, int] = {}
    with progress_bar(TextColumn(how), disable=quiet) as bar:

        def report(told: Told) -> None:
            if told.step <= last.get(told.stage, told.step):
                if told.stage in tasks:
                    bar.remove_task(tasks[told.stage])
                # Steps of an earlier sitting took none of this one's time.
                task = bar.add_task(
                    told.stage, total=told.steps, completed=told.step - 1, loss=0.0, rate=0.0, speed=0.0
                )
                tasks[told.stage] = task
            last[told.stage] = told.step
            speed = told.images / told.seconds if told.seconds else 0.0
            bar.update(tasks[told.stage], completed=told.step, loss=told.loss, rate=told.rate, speed=speed)

        yield report
