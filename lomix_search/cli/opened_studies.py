"""What commands on studies open and show."""

import shlex
from pathlib import Path
from typing import Any

from lomix_search.cli.common import console
from lomix_search.errors import require
from lomix_search.experiments.listing import number_text
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.terminal import Table


def open_to_read(where: str, name: str | None) -> tuple[Any, Recipe]:
    """Open a study to read it."""
    require("optuna", "tune")
    from lomix_search.experiments.tune.opening import open_study

    return open_study(where, name)


def overview_of(study: Any, recipe: Recipe, top: int) -> Any:
    """Return how a study stands, with so many of its best trials."""
    from lomix_search.experiments.tune.overview import overview

    return overview(study, recipe, top)


def show_study(study: Any, recipe: Recipe, top: int) -> None:
    """Print how a study stands, and the best trials with their values."""
    from lomix_search.experiments.tune.trial import shown

    found = overview_of(study, recipe, top)
    for line in found.lines:
        console.print(line)
    table = Table("trial", *found.goals, "values", title="the front" if recipe.tune.cost else "best trials")
    for one in found.best:
        values = (number_text(goal, value) for goal, value in one.values.items())
        table.add_row(str(one.number), *values, shown(one.settings))
    if found.best:
        console.print(table)


def write_array(path: Path, recipe: Recipe, study: tuple[Any, ...], options: tuple[Any, ...]) -> None:
    """Write a script for sbatch: an array of workers of a study."""
    require("optuna", "tune")
    from lomix_search.experiments.tune.outer_search import check_ranges
    from lomix_search.experiments.tune.slurm import ArrayStudy, SlurmArray, write_slurm

    check_ranges(recipe)
    written = write_slurm(path, recipe, ArrayStudy(*study), SlurmArray(*options))
    console.print(f"written: {written}\nnext: {shlex.join(['sbatch', str(written)])}", soft_wrap=True)
