"""``litegpt-train study``: a grid of runs from one start, and one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.interruption import INTERRUPTED, interruptible
from training.stage_commands import Device, Threads, progress, use_threads


def study(
    plan: Annotated[str, typer.Argument(help="A YAML file, or a shipped study's name.")] = "study/phantom",
    out: Annotated[Path, typer.Option(help="The study's folder.", file_okay=False)] = Path("build/study"),
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; default: all.", metavar="ROW")] = None,
    factor: Annotated[float, typer.Option(min=0, help="How many steps, against the recipes.")] = 1.0,
    show: Annotated[bool, typer.Option("--list", help="Only list the rows and what is done.")] = False,
    document: Annotated[
        Path | None, typer.Option(help="Put the table between this document's marks.", dir_okay=False)
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Run the paper's experiments, and others, and compare them in one table.

    Each row is run with each seed from one shared start. What is done is not done again: after Ctrl-C the
    same command goes on. The table (study.md, study.json) is written anew after each run. Exits with 1 if a
    row failed; one whose data or start are not on this machine is left out, which is no fault.

    Example: litegpt-train study study/phantom --out build/study --list

    Example: litegpt-train study study/phantom --out build/study --document docs/experiments.md
    """
    from training.study.pace import Pace
    from training.study.plan import read_plan
    from training.study.runner import StoppedError, Study
    from training.study.table import put_into, to_markdown, write_tables

    wanted = read_plan(plan)
    rows = wanted.chosen(tuple(only or ()))
    use_threads(threads)
    with interruptible() as stop, progress(quiet=show) as report:
        whole = Study(wanted, out, factor=factor, device=device, report=report, stop=stop)
        outcomes = {(one.row, one.seed): one for one in whole.done(wanted.rows)}
        if show:
            for row in wanted.rows:
                done = sum((row.name, seed) in outcomes for seed in wanted.seeds)
                typer.echo(f"{done}/{len(wanted.seeds)}  {row.name}: {row.question}")
            return
        out.mkdir(parents=True, exist_ok=True)
        missing = {(row.name, seed) for row in rows for seed in wanted.seeds} - set(outcomes)
        total, pace = len(rows) * len(wanted.seeds), Pace()
        try:
            for number, one in enumerate(whole.run(rows), start=1):
                outcomes[one.row, one.seed] = one
                write_tables(out, wanted, list(outcomes.values()))
                if (one.row, one.seed) in missing:
                    missing.remove((one.row, one.seed))
                    if not one.left_out:
                        pace.run_ended()
                ending = (": left out" if one.left_out else ": failed") if one.failure else ""
                line = f"{number}/{total}  {one.row}, seed {one.seed}{ending}{pace.left(len(missing))}"
                typer.echo(line, err=True)
        except StoppedError:
            typer.echo("Stopped; all is saved: the same command goes on.", err=True)
            raise typer.Exit(INTERRUPTED) from None
    text = to_markdown(wanted, list(outcomes.values()))
    if document is not None:
        put_into(document, text)
    typer.echo(text)
    if any(one.failure and not one.left_out for one in outcomes.values()):
        raise typer.Exit(1)
