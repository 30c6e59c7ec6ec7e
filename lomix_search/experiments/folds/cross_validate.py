"""``lomix run RECIPE --folds 5``: the folds one after another, each a run folder, and what they scored together."""

import inspect
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.errors import RecipeError, RunError
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.fold_scores import FoldScores
from lomix_search.experiments.folds.scored_folds import score_folds
from lomix_search.experiments.run import check_place, run_recipe
from lomix_search.experiments.status import read_status
from lomix_search.recipe.objects import load_object
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.training.run_folder import hold
from lomix_search.utils.distributed import join, on_main
from lomix_search.utils.terminal import plain

_MOST = 1000


def cross_validate(
    recipe: Recipe, folder: Path, folds: int, *, resume: bool = False, console: Console | None = None
) -> FoldScores:
    """Run a recipe once for each fold, and score every patient by the network that did not train on it.

    Args:
        recipe: What all folds share; ``data.folds`` and ``data.fold`` are set here.
        folder: Afterwards it holds a run folder ``fold0`` … a fold, ``folds.json``, ``scores.csv`` and ``scores.md``;
            with test cases also ``test/scores.csv``, of all networks together.
        folds: k.
        resume: Go on: finished folds are left as they are, an interrupted one goes on from its checkpoint.
        console: Where to report; silent by default.

    Returns:
        The scores.

    Raises:
        RecipeError: the data cannot be cut into folds, or the recipe chooses one.
        RunError: the folder holds a run or another cross-validation.
        DataError: there are fewer patients than folds, or no whole cases to score.
    """
    recipes = fold_recipes(recipe, folds)
    places = [folder / f"fold{number}" for number in range(folds)]
    join()
    on_main(lambda: _claim(folder, places, recipes, resume))
    _check_cases(recipes[0])
    with hold(folder):
        for number, (place, one) in enumerate(zip(places, recipes, strict=True)):
            if console is not None:
                console.rule(plain(f"fold {number} of {folds}"))
            if _finished(place, one):
                _say(console, f"{place} is finished")
            else:
                run_recipe(one, place, resume=resume, console=console)
        return on_main(lambda: score_folds(folder, places, progress=console is not None))


def fold_recipes(recipe: Recipe, folds: int) -> list[Recipe]:
    """Return the recipe of each fold.

    Args:
        recipe: What they share.
        folds: How many.

    Returns:
        The recipes, which differ in ``data.fold``.

    Raises:
        RecipeError: the data know no folds, the recipe chooses one, or the number makes no sense.
    """
    if not 2 <= folds <= _MOST:
        raise RecipeError(f"--folds {folds}: 2 … {_MOST} are possible.", hint="--folds 5")
    if not {"fold", "folds"} <= _settings_of(recipe):
        raise RecipeError(
            f"data.kind = {recipe.data.kind!r} cannot be cut into folds: it has no settings fold and folds.",
            seen="one patient, whose slices would be tested on their neighbours" if _one_patient(recipe) else (),
            hint="data of several patients: lomix new FOLDER --images IMAGES --masks MASKS, or lomix prepare",
        )
    if recipe.data.settings.get("fold") is not None:
        raise RecipeError(
            f"--folds {folds} runs every fold, and the recipe chooses fold {recipe.data.settings['fold']}.",
            hint="leave out data.fold, or --folds",
        )
    return [recipe.override({"data.folds": folds, "data.fold": number}) for number in range(folds)]


def _settings_of(recipe: Recipe) -> set[str]:
    """Return the names of the settings that the recipe's data take."""
    if kind := DATA_KINDS.get(recipe.data.kind):
        return set(kind.settings.model_fields)
    return set(inspect.signature(load_object(recipe.data.kind, "data.kind")).parameters)


def _one_patient(recipe: Recipe) -> bool:
    return recipe.data.kind == "chest_ct"


def _claim(folder: Path, places: Sequence[Path], recipes: Sequence[Recipe], resume: bool) -> None:
    """Refuse a folder that holds something else, before anything is run."""
    if (folder / "recipe.toml").exists():
        raise RunError(f"{folder} holds a single run; nothing was changed.", hint="--folder runs/new")
    if more := [place for place in fold_runs(folder) if place not in places]:
        raise RunError(
            f"{folder} holds a cross-validation of more folds.",
            seen=", ".join(place.name for place in more),
            hint="--folds as before, or --folder runs/new",
        )
    for place, recipe in zip(places, recipes, strict=True):
        check_place(place, recipe, resume)


def _check_cases(recipe: Recipe) -> None:
    """Refuse data without whole cases before anything is trained, for they are what is scored in the end."""
    if not len(recipe.build_data().volumes.get("val", ())):
        raise RunError(
            "a cross-validation scores whole cases, and the data have none for validation.",
            seen=f"Splits.volumes of data.kind = {recipe.data.kind!r}",
            hint='Splits(…, volumes={"val": cases, "test": cases})',
        )


def _finished(place: Path, recipe: Recipe) -> bool:
    """Return whether a fold was run to the end of what the recipe asks for."""
    status = read_status(place)
    done = status is not None and status.now == "finished" and (place / "final.pt").is_file()
    return done and load_recipe(place / "recipe.toml").search.steps == recipe.search.steps


def _say(console: Console | None, text: str) -> None:
    if console is not None:
        console.print(plain(text))
