"""``litegpt``: read DICOM radiographs with the model alone, without a node."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from litegpt.errors import LiteGPTError
from litegpt.identity import ModelIdentity
from litegpt.prediction import Prediction, dicom_files

if TYPE_CHECKING:
    from litegpt.engine import Engine

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _commands() -> None:
    """LiteGPT: findings with boxes and diagnoses from chest radiographs. Not a medical device."""


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.", metavar="FILE...")],
    model: Annotated[str, typer.Option(help="Model folder, or 'phantom', the demonstration.")] = "phantom",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an image.")] = False,
    overlay: Annotated[
        Path | None, typer.Option(help="Folder for PNGs with the boxes drawn in.", file_okay=False)
    ] = None,
    candidates: Annotated[
        bool, typer.Option(help="In JSON, add a box for every label that was not said but might be.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
) -> None:
    """Read radiographs and print what the model finds.

    Findings below the model's threshold are printed and marked, but not drawn. A file that cannot be read is
    reported in one line and the others go on; the exit code is then 1. Of a folder, all files are read that
    are DICOM by their first bytes.

    Example: litegpt predict chest.dcm more/ --overlay pictures
    """
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    files = dicom_files(paths)
    engine = _engine(model, device, precision)
    if engine.identity.demonstration:
        messages.print(_demonstration_warning(engine.identity), style="yellow", markup=False)
    prediction = Prediction(engine, overlay, candidates=candidates)
    try:
        with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
            for line in bar.track(prediction.json_lines(files), total=len(files), description="reading"):
                if as_json and line is not None:
                    typer.echo(line)
    finally:  # also after Ctrl-C
        if not as_json and prediction.table.row_count:
            Console().print(prediction.table)
        for failure in prediction.failures:
            messages.print(failure, style="red", markup=False)
    if prediction.failures:
        raise typer.Exit(1)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="MiniGPT-v2's stage 3 file, or one of LiteGPT's own.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write.", file_okay=False)],
    language_model: Annotated[
        str, typer.Option(help="Hub id or path of Llama-2-7b-chat.")
    ] = "meta-llama/Llama-2-7b-chat-hf",
    biomedclip: Annotated[str | None, typer.Option(help="Folder of BiomedCLIP; else fetched by id.")] = None,
    pubmedclip: Annotated[str | None, typer.Option(help="Folder of PubMedCLIP; else fetched by id.")] = None,
    name: Annotated[str, typer.Option(help="The model's id, in every report.")] = "litegpt",
    version: Annotated[str, typer.Option(help="The weights' version, in every report.")] = "1",
    seed: Annotated[int, typer.Option(help="Of the first Linear, where the file has none.")] = 0,
) -> None:
    """Make a model folder from a published checkpoint.

    Example: litegpt convert checkpoint_stage3.pth models/litegpt --language-model /models/llama-2-7b-chat
    """
    from litegpt.convert import convert as make_folder
    from litegpt.model_config import paper_config

    config = paper_config(ModelIdentity(name, version, demonstration=False), language_model)
    names = (biomedclip, pubmedclip)
    encoders = tuple(
        replace(source, name=given or source.name)
        for source, given in zip(config.encoders, names, strict=True)
    )
    conversion = make_folder(checkpoint, out, replace(config, encoders=encoders), seed=seed)
    for theirs, ours in conversion.mapping:
        typer.echo(f"{theirs} -> {ours}")
    for ignored in conversion.ignored:
        typer.echo(f"{ignored} is a buffer, not needed")
    typer.echo(f"{out}: a model folder, from a checkpoint of {conversion.form}")
    if conversion.first_linear_is_random:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            "WARNING: this checkpoint has no first Linear (3840 to 5632): it was started AT RANDOM. Until it "
            "is trained the model sees nothing, and what it says means nothing. The folder is marked as a "
            "demonstration.",
            style="bold red",
            markup=False,
        )


@app.command()
def describe(
    model: Annotated[str, typer.Argument(help="Model folder, or 'phantom'.", metavar="FOLDER")],
) -> None:
    """Say what is in a model folder, its parameters, the memory they will need, and its operating point.

    Example: litegpt describe phantom
    """
    from litegpt.calibration_card import calibration_card
    from litegpt.description import BYTES
    from litegpt.description import describe as described

    description = described(model)
    config, identity = description.config, description.config.identity
    demonstration = ", a demonstration" if identity.demonstration else ""
    typer.echo(
        f"{identity.id} {identity.version}{demonstration}, preset {config.preset}: {description.folder}"
    )
    table = Table("part", "from", "parameters")
    for part in description.parts:
        count = "not here to count" if part.parameters is None else f"{part.parameters:,}"
        table.add_row(part.name, part.source, count)
    Console(soft_wrap=True).print(table)
    shared = config.preprocessing
    images = f"{shared.size} x {shared.size} pixels for all encoders" if shared else "each encoder's own size"
    typer.echo(f"images: {images}; fusion: {config.fusion}; longest answer: {config.max_new_tokens} tokens")
    sizes = ", ".join(f"{name} {description.memory_bytes(name) / 2**20:,.0f} MiB" for name in BYTES)
    missing = f"; not counted: {', '.join(description.unknown)}" if description.unknown else ""
    typer.echo(f"memory of the weights: {sizes}{missing}; activations and KV cache come on top")
    if config.operating_point is None:
        typer.echo("no operating point: scores are the model's own, and every finding is reported")
    else:
        Console(soft_wrap=True).print(calibration_card(config.operating_point))


def _engine(model: str, device: str | None, precision: str | None) -> Engine:
    from litegpt.engine import Engine  # loads torch: not before --help and wrong options are dealt with

    return Engine.load(model, device=device, precision=precision)


def _demonstration_warning(identity: ModelIdentity) -> str:
    return (
        f"{identity.id} {identity.version} is a demonstration, trained on synthetic images: "
        "what it says about a patient means nothing."
    )


def main() -> None:
    """Entry point of ``litegpt``."""
    try:
        app()
    except LiteGPTError as error:
        print(f"litegpt: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
