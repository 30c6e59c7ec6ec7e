"""Run folders: list, compare, run again, report."""

from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import Resume, app, console
from lomix_search.experiments.listing import list_runs, runs_table
from lomix_search.experiments.report.write import write_report
from lomix_search.experiments.reproduce import reproduce
from lomix_search.experiments.run_differences import tell_apart


@app.command("runs")
def runs_command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help='a folder to look in  [default: runs]; or "compare" and two runs or more',
            metavar="[FOLDER | compare RUN RUN …]",
        ),
    ] = None,
) -> None:
    """List runs with state, step, scores, recipe and time; or compare some: settings, scores, learned weights."""
    words = what or ["runs"]
    if words[0] == "compare":
        console.print(tell_apart([Path(word) for word in words[1:]]))
        return
    for word in words:
        console.print(runs_table(list_runs(Path(word)), Path(word)))


@app.command("reproduce")
def reproduce_command(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    folder: Annotated[Path | None, typer.Option(help="where to  [default: RUN-again]")] = None,
    resume: Resume = False,
) -> None:
    """Run a finished run's recipe again and say whether it came out the same, bit for bit; exit code 1 if not."""
    found = reproduce(run, folder, resume=resume, console=console)
    console.print(str(found), soft_wrap=True)
    if not found.matched:
        raise typer.Exit(1)


@app.command("report")
def report_command(
    what: Annotated[Path, typer.Argument(help="a run folder, or the folder of a study or of a cross-validation")],
    out: Annotated[Path | None, typer.Option(help="file to write  [default: report.html in that folder]")] = None,
) -> None:
    """Write one HTML file with all there is to see of a run, a study or a cross-validation; it needs no server."""
    console.print(f"written: {write_report(what, out)}", soft_wrap=True)
