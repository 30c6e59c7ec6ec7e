"""Many runs: compare strategies, tune outer hyperparameters."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lomix_search.cli.app import Folder, Overrides, Resume, app, console, numbers
from lomix_search.compare import compare_strategies
from lomix_search.recipe import load_recipe
from lomix_search.strategies import read_strategies
from lomix_search.tune import tune
from lomix_search.verdict import to_table


@app.command("compare")
def compare_command(
    recipe: Annotated[str, typer.Argument(help="a shipped name, a recipe.toml or its folder")],
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option(help="spaces and weightings, with settings: lookahead(rate=0.5), and derived(top=8)")
    ] = "last_layer,deep_supervision,mutation,uniform,softplus,lookahead,anneal",
    seeds: Annotated[int, typer.Option(help="runs of each")] = 5,
    label_fraction: Annotated[str, typer.Option(help="parts of the training items, e.g. 0.1,1")] = "1",
    jobs: Annotated[int, typer.Option(help="processes at a time")] = 1,
    folder: Folder = None,
) -> None:
    """Compare strategies at equal budget, seed by seed; the same command goes on after a stop."""
    loaded, chosen = load_recipe(recipe, overrides or ()), read_strategies(strategies)
    home = folder or Path("runs") / f"{loaded.name}-compare"
    rows = compare_strategies(
        loaded, chosen, seeds=seeds, labels=numbers(label_fraction), folder=home, jobs=jobs, console=console
    )
    console.print(to_table(rows))
    console.print(f"all in {home}: compare.md compare.json compare.png, a folder a run", highlight=False)


@app.command("tune")
def tune_command(
    recipe: str,
    overrides: Overrides = None,
    trials: Annotated[int | None, typer.Option(help="finished trials in all  [default: the recipe's]")] = None,
    folder: Folder = None,
    resume: Resume = False,
) -> None:
    """Tune the outer hyperparameters that a recipe declares, with Optuna."""
    loaded = load_recipe(recipe, overrides or ())
    study = tune(loaded, trials, folder=folder or Path("runs") / f"{loaded.name}-tune", resume=resume, console=console)
    table = Table("trial", "value", *study.best_trial.params, title=f"best trials by {loaded.tune.metric}")
    done = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(done, key=lambda t: t.value, reverse=loaded.tune.direction == "maximize")[:10]:
        table.add_row(
            str(trial.number),
            f"{trial.value:.4f}",
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.params.values()),
        )
    console.print(table)
