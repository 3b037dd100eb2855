"""The command ``export``: findings as a table, for a spreadsheet or a program of one's own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.cli.choosing import Chosen, choosing
from service.cli.options import Config, DataDir, open_records, settings_of_process
from service.cli.progress import studies_counted
from service.cli.who import written_down
from service.exporting import rows
from service.exporting.files import CommaSeparated, Table, require_format, whole_file
from service.exporting.pseudonyms import Pseudonyms

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="A .csv or .parquet file; CSV on standard output without it."
    ),
]
AllAnalyses = Annotated[
    bool, typer.Option("--all-analyses", help="What former analyses said, too, not only the newest.")
]
Pseudonymise = Annotated[
    bool,
    typer.Option(
        "--pseudonymise", help="Other UIDs and accession numbers, and other days, by this node's secret key."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(choosing(export))


def export(
    chosen: Chosen,
    output: Output = None,
    all_analyses: AllAnalyses = False,
    pseudonymise: Pseudonymise = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Write findings as CSV or Parquet: a row for each, and one for each image without any.

    All findings of the studies that are chosen, also those below the threshold (reported: false).

    Example: litegpt-node export --since 2024-01-01 -o findings.parquet --pseudonymise
    """
    settings = settings_of_process(config, data_dir=data_dir)
    selection = chosen.selection(settings)
    if output is not None:
        require_format(output)
    records = open_records(settings)
    try:
        pseudonyms = Pseudonyms.of_folder(settings.data_dir) if pseudonymise else None
        shown = output is not None or not sys.stdout.isatty()
        asked = {"studies": selection.as_json(), "pseudonymised": pseudonymise, "all_analyses": all_analyses}
        with (
            _table(output) as table,
            studies_counted("export", shown=shown) as count,
            written_down(records, "export", asked) as outcome,
        ):
            for page in rows.pages(records, selection, all_analyses=all_analyses):
                table.write([pseudonyms.of_row(row) for row in page.rows] if pseudonyms else page.rows)
                outcome.update(studies=page.studies, rows=len(page.rows))
                count(page.studies)
    finally:
        records.close()
    if output is not None:
        line = f"export: {outcome['rows']:,} rows of {outcome['studies']:,} studies in {output}"
        Console(highlight=False, soft_wrap=True).print(Text(line))


@contextmanager
def _table(output: Path | None) -> Iterator[Table]:
    if output is not None:
        with whole_file(output) as table:
            yield table
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    table = CommaSeparated(sys.stdout)
    yield table
    table.finish()
