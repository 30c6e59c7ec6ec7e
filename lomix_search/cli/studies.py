"""Many runs: compare strategies, tune outer hyperparameters."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lomix_search.cli.common import (
    RECIPE,
    AsJson,
    Overrides,
    app,
    console,
    numbers,
    print_json,
    silent,
    tell_files,
    typed,
)
from lomix_search.errors import require
from lomix_search.recipe.tuning import MOST_TRIALS


@app.command("compare")
def compare_command(
    recipe: Annotated[str, typer.Argument(help=RECIPE, metavar="RECIPE")],
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option(help="spaces and weightings, with settings: lookahead(rate=20), and derived(top=8)")
    ] = "last_layer,deep_supervision,mutation,uniform,softplus,lookahead,anneal",
    seeds: Annotated[int, typer.Option(help="runs of each strategy, with seeds 1, 2, …", min=1)] = 5,
    label_fraction: Annotated[
        str, typer.Option(help="parts of the training items, each in (0, 1], comma-separated: 0.1,1")
    ] = "1",
    jobs: Annotated[int, typer.Option(help="processes at a time", min=1)] = 1,
    baseline: Annotated[
        str | None, typer.Option(help="strategy to compare with (default: last_layer, if it is run)")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="where to, a folder a run in it (default: runs/<recipe>-compare)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies at equal budget, seed by seed; the same command goes on after a stop."""
    from lomix_search.experiments.compare.runner import compare_strategies
    from lomix_search.experiments.compare.strategies import read_strategies
    from lomix_search.experiments.compare.verdict_table import to_json, to_table
    from lomix_search.recipe.recipe import home_of, load_recipe

    loaded, chosen = load_recipe(recipe, overrides or ()), read_strategies(strategies)
    home = folder or home_of(loaded, "-compare")
    with silent(as_json):
        rows = compare_strategies(
            loaded, chosen, seeds=seeds, labels=numbers(label_fraction), folder=home, jobs=jobs, baseline=baseline,
            console=console,
        )  # fmt: skip
        console.print(to_table(rows, baseline))
    if as_json:
        typer.echo(to_json(rows), nl=False)
        return
    tell_files(home, "compare.md compare.json cases.csv compare.png curves.png, a folder a run")
    console.print(f"next: {typed('report', home)}", soft_wrap=True)


class _TuneGroup(TyperGroup):
    """``lomix tune RECIPE`` is short for ``lomix tune run RECIPE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


tune_app = typer.Typer(cls=_TuneGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.add_typer(tune_app, name="tune", help="Tune outer hyperparameters with Optuna, on any number of machines.")
StudyName = Annotated[str | None, typer.Option("--study", help="name of the study (default: the recipe's)")]
Where = Annotated[
    str,
    typer.Argument(
        help="a study: its folder, its name in runs, its journal file or a database address", metavar="STUDY"
    ),
]
_SLURM = "SLURM, with --slurm"


@tune_app.command("run")
def tune_command(
    recipe: Annotated[str, typer.Argument(help=RECIPE, metavar="RECIPE")],
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(help="finished trials in all (default: the recipe's)", min=1, max=MOST_TRIALS)
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="study folder (default: runs/<recipe>-tune)")] = None,
    storage: Annotated[
        str | None, typer.Option(help="join or start a study there: postgresql+psycopg://user@host/db, or study.log")
    ] = None,
    study: StudyName = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the folder's study")] = False,
    heartbeat: Annotated[
        int, typer.Option(help="seconds between two signs of life, in a database", min=1, max=86400)
    ] = 30,
    leave: Annotated[bool, typer.Option("--leave", help="do not wait for other workers at the end")] = False,
    slurm: Annotated[
        Path | None,
        typer.Option(help="run nothing: write a script for sbatch, an array of workers", rich_help_panel=_SLURM),
    ] = None,
    workers: Annotated[int, typer.Option(help="tasks of the array", min=1, rich_help_panel=_SLURM)] = 4,
    time: Annotated[
        str, typer.Option(help="limit of each task: 12:00:00, 2-00:00:00, or minutes", rich_help_panel=_SLURM)
    ] = "12:00:00",
    cpus: Annotated[int, typer.Option(help="cores of each task", min=1, rich_help_panel=_SLURM)] = 4,
    gpus: Annotated[int, typer.Option(help="GPUs of each task, all for one trial", min=0, rich_help_panel=_SLURM)] = 1,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(help="a further option of sbatch: --partition=long; again for more", rich_help_panel=_SLURM),
    ] = None,
) -> None:
    """Vary what a recipe declares under tune.ranges; lomix tune RECIPE for short."""
    from lomix_search.cli.opened_studies import show_study, write_array
    from lomix_search.experiments.tune.outer_search import tune
    from lomix_search.recipe.recipe import home_of, load_recipe
    from lomix_search.utils.distributed import is_main, join

    loaded = load_recipe(recipe, overrides or ())
    if slurm is not None:
        study_of = (recipe, overrides or (), trials, folder, storage, study)
        write_array(slurm, loaded, study_of, (workers, time, cpus, gpus, tuple(sbatch or ())))
        return
    join()
    if not is_main():  # under torchrun each trial runs on all processes; the first one owns the study
        require("optuna", "tune")
        from lomix_search.experiments.tune.trial_processes import follow

        follow()
        return
    home = folder or home_of(loaded, "-tune")
    done = tune(
        loaded, trials, folder=home, storage=storage, name=study, resume=resume, heartbeat=heartbeat, leave=leave,
        console=console,
    )  # fmt: skip
    show_study(done, loaded, 10)


@tune_app.command("status")
def status_command(where: Where, study: StudyName = None, as_json: AsJson = False) -> None:
    """Say how a study stands: trials by state, the best so far, what runs where, and why trials failed."""
    from lomix_search.cli.opened_studies import open_to_read, overview_of, show_study

    opened, recipe = open_to_read(where, study)
    if as_json:
        print_json(dataclasses.asdict(overview_of(opened, recipe, 1)))
    else:
        show_study(opened, recipe, 1)


@tune_app.command("best")
def best_command(
    where: Where,
    write: Annotated[
        Path | None, typer.Option(help="write the best trial as a recipe, several as FILE-1.toml, FILE-2.toml, …")
    ] = None,
    top: Annotated[int, typer.Option(help="this many of the best; of a study with a cost always the front", min=1)] = 1,
    study: StudyName = None,
    as_json: AsJson = False,
) -> None:
    """Show the best trials of a study, and write them as recipes."""
    from lomix_search.cli.opened_studies import open_to_read, overview_of, show_study

    opened, recipe = open_to_read(where, study)
    from lomix_search.experiments.tune.best import write_best

    paths = [] if write is None else write_best(opened, recipe, write, top)
    if as_json:
        best = dataclasses.asdict(overview_of(opened, recipe, top))["best"]
        print_json({"study": opened.study_name, "best": best, "written": paths})
        return
    show_study(opened, recipe, top)
    if paths:
        next_one = shlex.join(["lomix", "run", str(paths[0])])
        console.print(f"written: {', '.join(map(str, paths))}\nnext: {next_one}", soft_wrap=True)


@tune_app.command("plot")
def plot_command(
    where: Where,
    folder: Annotated[Path, typer.Option(help="where the pictures go")] = Path(),
    study: StudyName = None,
) -> None:
    """Draw a study: history, importance of each parameter, validation curves, or the front."""
    from lomix_search.cli.opened_studies import open_to_read

    opened = open_to_read(where, study)
    require("matplotlib", "plot")
    from lomix_search.experiments.tune.plots import draw_study

    drawn = draw_study(*opened, folder)
    for path in drawn:
        console.print(f"drawn: {path}", soft_wrap=True)
    if not drawn:
        console.print("nothing is drawn: no trial has finished")
