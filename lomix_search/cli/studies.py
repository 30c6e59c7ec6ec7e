"""Many runs: compare strategies, tune outer hyperparameters."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lomix_search.cli.common import Folder, Overrides, app, console, numbers
from lomix_search.errors import require
from lomix_search.experiments.compare.runner import compare_strategies
from lomix_search.experiments.compare.strategies import read_strategies
from lomix_search.experiments.compare.verdict_table import to_table
from lomix_search.experiments.tune.outer_search import tune
from lomix_search.recipe.recipe import Recipe, home_of, load_recipe
from lomix_search.recipe.tuning import MOST_TRIALS
from lomix_search.utils.distributed import is_main, join
from lomix_search.utils.terminal import Table


@app.command("compare")
def compare_command(
    recipe: Annotated[str, typer.Argument(help="a shipped name, a recipe.toml or its folder")],
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option(help="spaces and weightings, with settings: lookahead(rate=20), and derived(top=8)")
    ] = "last_layer,deep_supervision,mutation,uniform,softplus,lookahead,anneal",
    seeds: Annotated[int, typer.Option(help="runs of each")] = 5,
    label_fraction: Annotated[str, typer.Option(help="parts of the training items, e.g. 0.1,1")] = "1",
    jobs: Annotated[int, typer.Option(help="processes at a time")] = 1,
    baseline: Annotated[
        str | None, typer.Option(help="strategy to compare with  [default: last_layer, if it is run]")
    ] = None,
    folder: Folder = None,
) -> None:
    """Compare strategies at equal budget, seed by seed; the same command goes on after a stop."""
    loaded, chosen = load_recipe(recipe, overrides or ()), read_strategies(strategies)
    home = folder or home_of(loaded, "-compare")
    rows = compare_strategies(
        loaded, chosen, seeds=seeds, labels=numbers(label_fraction), folder=home, jobs=jobs, baseline=baseline,
        console=console,
    )  # fmt: skip
    console.print(to_table(rows, baseline))
    console.print(f"all in {home}: compare.md compare.json cases.csv compare.png curves.png, a folder a run")


class _TuneGroup(TyperGroup):
    """``lomix tune RECIPE`` is short for ``lomix tune run RECIPE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


tune_app = typer.Typer(cls=_TuneGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.add_typer(tune_app, name="tune", help="Tune outer hyperparameters with Optuna, on any number of machines.")
StudyName = Annotated[str | None, typer.Option("--study", help="name of the study  [default: the recipe's]")]
Where = Annotated[str, typer.Argument(help="a study's folder, its journal file, or a database address")]


@tune_app.command("run")
def tune_command(
    recipe: Annotated[str, typer.Argument(help="a shipped name, a recipe.toml or its folder")],
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(help="finished trials in all  [default: the recipe's]", min=1, max=MOST_TRIALS)
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="study folder  [default: runs/<recipe>-tune]")] = None,
    storage: Annotated[
        str | None, typer.Option(help="join or start a study there: postgresql+psycopg://user@host/db, or study.log")
    ] = None,
    study: StudyName = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the folder's study")] = False,
    heartbeat: Annotated[int, typer.Option(help="seconds between two signs of life, in a database", max=86400)] = 30,
    leave: Annotated[bool, typer.Option("--leave", help="do not wait for other workers at the end")] = False,
) -> None:
    """Vary what a recipe declares under tune.ranges; lomix tune RECIPE for short."""
    loaded = load_recipe(recipe, overrides or ())
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
    _show_study(done, loaded, 10)


@tune_app.command("best")
def best_command(
    where: Where,
    write: Annotated[Path | None, typer.Option(help="write the best trial as a recipe, several numbered")] = None,
    top: Annotated[int, typer.Option(help="this many of the best; of a study with a cost always the front", min=1)] = 1,
    study: StudyName = None,
) -> None:
    """Show the best trials of a study, and write them as recipes."""
    require("optuna", "tune")
    from lomix_search.experiments.tune.best import write_best
    from lomix_search.experiments.tune.opening import open_study

    opened, recipe = open_study(where, study)
    _show_study(opened, recipe, top)
    if write is not None:
        paths = write_best(opened, recipe, write, top)
        console.print(f"written: {', '.join(map(str, paths))}\nnext: lomix run {paths[0]}")


@tune_app.command("plot")
def plot_command(
    where: Where,
    folder: Annotated[Path, typer.Option(help="where the pictures go")] = Path(),
    study: StudyName = None,
) -> None:
    """Draw a study: history, importance of each parameter, validation curves, or the front."""
    require("optuna", "tune"), require("matplotlib", "plot")
    from lomix_search.experiments.tune.opening import open_study
    from lomix_search.experiments.tune.plots import draw_study

    for path in draw_study(*open_study(where, study), folder):
        console.print(f"drawn: {path}")


def _show_study(study: Any, recipe: Recipe, top: int) -> None:
    """Print the states of all trials, and the best ones with their values."""
    from lomix_search.experiments.tune.best import best_trials
    from lomix_search.experiments.tune.parameters import decode
    from lomix_search.experiments.tune.trial import shown

    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    console.print(f'study "{study.study_name}": ' + ", ".join(f"{n} {state}" for state, n in sorted(states.items())))
    best = best_trials(study, recipe, top)
    goals = [recipe.tune.metric, *([recipe.tune.cost] if recipe.tune.cost else [])]
    table = Table("trial", *goals, "values", title="the front" if recipe.tune.cost else "best trials")
    for trial in best:
        values = [f"{value:.4f}" for value in trial.values]
        table.add_row(str(trial.number), *values, shown(decode(trial.params, recipe.tune)))
    console.print(table)
