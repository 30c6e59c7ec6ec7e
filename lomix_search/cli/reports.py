"""Run folders: list, tell apart, run again, report."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import RUN, AsJson, Resume, app, console, print_json


@app.command("runs")
def runs_command(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="folders to look in, or names in runs (default: runs)", metavar="FOLDER"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs with state, step, scores, recipe and time."""
    from lomix_search.experiments.listing import find_run, list_runs, runs_table

    words = what or ["runs"]
    if words[0] == "compare":  # its name before it was lomix diff
        diff_command([Path(word) for word in words[1:]], as_json)
        return
    if as_json:
        print_json([dataclasses.asdict(run) for word in words for run in list_runs(find_run(Path(word)))])
        return
    for word in map(find_run, map(Path, words)):
        console.print(runs_table(list_runs(word), word))


@app.command("diff")
def diff_command(
    runs: Annotated[
        list[Path], typer.Argument(help="two runs or more: their folders, or their names in runs", metavar="RUN")
    ],
    as_json: AsJson = False,
) -> None:
    """Tell finished runs apart: settings that differ, scores, cost, learned weights, environments."""
    from lomix_search.experiments.listing import find_run
    from lomix_search.experiments.run_differences import differences_to_dict, tell_apart

    found = tell_apart([find_run(run) for run in runs])
    if as_json:
        print_json(differences_to_dict(found))
    else:
        console.print(found)


@app.command("reproduce")
def reproduce_command(
    run: Annotated[Path, typer.Argument(help=f"finished, {RUN}", metavar="RUN")],
    folder: Annotated[Path | None, typer.Option(help="where to (default: RUN-again)")] = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Run a finished run's recipe again and say whether it came out the same, bit for bit; exit code 1 if not."""
    from lomix_search.experiments.listing import find_run
    from lomix_search.experiments.reproduce import reproduce

    found = reproduce(find_run(run), folder, resume=resume, console=None if as_json else console)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        first, one, again, *rest = str(found).splitlines()
        console.print(first)
        console.print(f"{one}\n{again}", soft_wrap=True)  # paths, to be pasted
        console.print("\n".join(rest))
    if not found.matched:
        raise typer.Exit(1)


@app.command("report")
def report_command(
    what: Annotated[
        Path,
        typer.Argument(
            help="a run, study, cross-validation or comparison: its folder, or its name in runs", metavar="RUN"
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="file to write (default: report.html in that folder)")] = None,
) -> None:
    """Write one HTML file with all of a run, a study, a cross-validation or a comparison; it needs no server."""
    from lomix_search.experiments.listing import find_run
    from lomix_search.experiments.report.write import write_report

    console.print(f"written: {write_report(find_run(what), out)}", soft_wrap=True)
