"""``litegpt-train``: make phantoms, train models, measure them, look into datasets. A file a command."""

from __future__ import annotations

import logging
import sys

import typer

from litegpt.errors import LiteGPTError
from training.cache_command import cache
from training.calibrate_command import calibrate
from training.errors import TrainingError
from training.evaluate_command import evaluate
from training.inspect_command import inspect
from training.phantom_command import phantom, phantom_sheet, samples
from training.report_command import report
from training.stage_commands import diagnosis, grounding, phantom_model, pretrain
from training.study_command import study

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _commands() -> None:
    """Train LiteGPT and measure it."""


for _command in (
    inspect,
    cache,
    pretrain,
    grounding,
    diagnosis,
    phantom_model,
    study,
    calibrate,
    evaluate,
    report,
    phantom,
    phantom_sheet,
    samples,
):
    app.command()(_command)


def main() -> None:
    """Entry point of ``litegpt-train``."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    try:
        app()
    except (TrainingError, LiteGPTError) as error:
        print(f"litegpt-train: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
