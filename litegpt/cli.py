"""``litegpt``: read DICOM radiographs with the model alone, without a node."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from litegpt.errors import LiteGPTError, RadiographError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity
from litegpt.overlay import draw_overlay
from litegpt.radiograph import Radiograph, read_radiograph

if TYPE_CHECKING:
    from litegpt.engine import Engine

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")

BATCH_SIZE = 8

_PREAMBLE_BYTES = 128

ReadFile = tuple[Path, Radiograph]


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
    files = _files(paths)
    engine = _engine(model, device, precision)
    if engine.identity.demonstration:
        messages.print(_demonstration_warning(engine.identity), style="yellow", markup=False)
    table = Table("file", "finding", "score", "box in pixels: left, top, right, bottom")
    failures: list[str] = []
    pictures: set[Path] = set()
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("reading", total=len(files))
        for start in range(0, len(files), BATCH_SIZE):
            batch = list(_radiographs(files[start : start + BATCH_SIZE], failures))
            readings = engine.read([radiograph for _, radiograph in batch])
            for (path, radiograph), reading in zip(batch, readings, strict=True):
                if reading.failure:
                    failures.append(f"{path}: {reading.failure}")
                    continue
                if as_json:
                    typer.echo(_json_line(path, radiograph, reading, engine.identity))
                _add_rows(table, path, reading.findings)
                if overlay is not None:
                    picture = draw_overlay(
                        radiograph, reading.findings, demonstration=engine.identity.demonstration
                    )
                    picture.save(_picture_path(overlay, path, pictures))
            bar.update(task, advance=min(BATCH_SIZE, len(files) - start))
    if not as_json and table.row_count:
        Console().print(table)
    for failure in failures:
        messages.print(failure, style="red", markup=False)
    if failures:
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


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those of the folders named that begin as DICOM files do (PS3.10 7.1)."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [file for file in sorted(path.rglob("*")) if file.is_file() and _is_dicom(file)]
        else:
            found.append(path)
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"


def _radiographs(files: Sequence[Path], failures: list[str]) -> Iterator[ReadFile]:
    for path in files:
        try:
            yield path, read_radiograph(path)
        except (RadiographError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            failures.append(f"{path}: {reason}")


def _demonstration_warning(identity: ModelIdentity) -> str:
    return (
        f"{identity.id} {identity.version} is a demonstration, trained on synthetic images: "
        "what it says about a patient means nothing."
    )


def _add_rows(table: Table, path: Path, findings: Sequence[Finding]) -> None:
    for number, finding in enumerate(findings):
        box = finding.box
        sides = (box.x_min, box.y_min, box.x_max, box.y_max) if box else ()
        place = ", ".join(f"{side:.0f}" for side in sides)
        mark = "" if finding.reported else ", below threshold"
        table.add_row("" if number else path.name, finding.label, f"{finding.score:.2f}{mark}", place)
    if not findings:
        table.add_row(path.name, "(no readable answer)", "", "")


def _json_line(path: Path, radiograph: Radiograph, reading: Reading, identity: ModelIdentity) -> str:
    rows, columns = radiograph.pixels.shape
    return json.dumps(
        {
            "file": str(path),
            "model": {
                "id": identity.id,
                "version": identity.version,
                "demonstration": identity.demonstration,
            },
            "rows": rows,
            "columns": columns,
            "findings": [_finding_json(finding) for finding in reading.findings],
            "answers": dict(reading.answers),
            "malformed": reading.malformed,
            "label_scores": {label: _four_digits(score) for label, score in reading.label_scores.items()},
            "calibrated": reading.calibrated,
        },
        ensure_ascii=False,
    )


def _finding_json(finding: Finding) -> dict[str, object]:
    box = finding.box
    sides = [box.x_min, box.y_min, box.x_max, box.y_max] if box else None
    return {
        "label": finding.label,
        "score": _four_digits(finding.score),
        "box": sides,
        "box_score": None if finding.box_score is None else _four_digits(finding.box_score),
        "reported": finding.reported,
    }


def _four_digits(score: float) -> float:
    """Four significant ones: the probability of a box may be far below 0.0001."""
    return float(f"{score:.4g}")


def _picture_path(folder: Path, path: Path, taken: set[Path]) -> Path:
    """``folder/NAME.png``, numbered where several files of this run have the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, number = folder / f"{path.stem}.png", 1
    while picture in taken:
        number += 1
        picture = folder / f"{path.stem}-{number}.png"
    taken.add(picture)
    return picture


def main() -> None:
    """Entry point of ``litegpt``."""
    try:
        app()
    except LiteGPTError as error:
        print(f"litegpt: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
