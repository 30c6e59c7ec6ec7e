"""``lomix_search.tune``: checks what is asked for, then starts the study. Optuna, an extra, is imported only here."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lomix_search.errors import RecipeError, require
from lomix_search.recipe.recipe import Recipe, home_of
from lomix_search.recipe.tuning import MOST_TRIALS
from lomix_search.training.run_folder import sweep

if TYPE_CHECKING:
    import optuna


def tune(
    recipe: Recipe,
    trials: int | None = None,
    *,
    folder: str | Path | None = None,
    storage: str | Path | None = None,
    name: str | None = None,
    resume: bool = False,
    heartbeat: int = 30,
    leave: bool = False,
    console: Console | None = None,
) -> "optuna.Study":
    """Tune the outer hyperparameters of a recipe.

    The first trial takes the recipe's own values, the next the paper's. Each trial is a run folder in the study's
    folder. Any number of processes may work on one study; each call returns when the study is done. A trial whose
    process was killed is run again, from its checkpoint where that is at hand, and counts once.

    Args:
        recipe: A recipe with ``[tune.ranges]``.
        trials: Finished trials in all, those of other workers and earlier ones of a resumed study included; the
            recipe's number by default. A trial that failed for a reason that is known counts as finished.
        folder: The study's folder; ``runs/<recipe>-tune`` by default.
        storage: Where the study lives: a database address (``postgresql+psycopg://user@host/database``) or a journal
            file; the file ``journal.log`` in the folder by default.
        name: The study's name; the recipe's by default.
        resume: Go on with the folder's study. With ``storage`` a study that exists is joined anyway.
        heartbeat: Seconds between two signs of life; a trial in a database without any for four times as long is given
            to another worker.
        leave: Return when no trial is left to start, without waiting for those of other workers.
        console: Where to report; silent by default.

    Returns:
        The ``optuna.Study``.

    Raises:
        RecipeError: the recipe declares no ranges, or a number of trials is out of all bounds.
        RunError: the folder holds a study already and ``resume`` is off, the study is of another recipe, the storage
            cannot be reached, or every trial failed.
        MissingExtraError: Optuna or the database's driver is not installed.
    """
    require("optuna", "tune")
    from lomix_search.experiments.tune.storage import read_storage
    from lomix_search.experiments.tune.study import run_study

    check_ranges(recipe)
    wanted = recipe.tune.trials if trials is None else trials
    if not 1 <= wanted <= MOST_TRIALS:
        raise RecipeError(f"{wanted} trials: at least 1 and at most {MOST_TRIALS} are needed.", hint="--trials 20")
    home = Path(folder) if folder is not None else home_of(recipe, "-tune")
    sweep(home, age=3600)  # other workers may be writing
    return run_study(
        recipe,
        wanted,
        home,
        read_storage(storage, home, heartbeat),
        name or recipe.name,
        resume=resume or storage is not None,
        leave=leave,
        say=console or Console(quiet=True),
    )


def check_ranges(recipe: Recipe) -> None:
    """Check that a recipe declares something to tune.

    Args:
        recipe: The recipe.

    Raises:
        RecipeError: it does not.
    """
    if not recipe.tune.ranges:
        raise RecipeError(
            f'recipe "{recipe.name}" declares nothing to tune.',
            hint=['[tune.ranges."optimizer.lr"]', "low = 1e-4", "high = 1e-2", "log = true"],
        )
