"""A cross-validation whose folds are trained: its scores, made where they are missing, else read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lomix_search.errors import RunError
from lomix_search.evaluation.score_table import Evaluation, read_evaluation
from lomix_search.experiments.evaluate_run import evaluate_run, evaluation_folder
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.fold_scores import FoldScores, check_folds
from lomix_search.experiments.trained import check_finished, load_trained
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.run_folder import writing
from lomix_search.utils.files import write_text


def score_folds(
    folder: Path, places: Sequence[Path], *, changes: Sequence[str] = (), overlays: int = 0, progress: bool = False
) -> FoldScores:
    """Score all folds, and write what they scored together; what was scored since a network was trained is kept.

    Args:
        folder: Of the cross-validation.
        places: The run folder of each fold.
        changes: ``key=value`` changes of the recipe, e.g. ``evaluate.protocol=transunet``.
        overlays: Number of cases to draw of each fold.
        progress: Show progress bars.

    Returns:
        The scores; they are written where the folder can be written to.

    Raises:
        RunError: a fold is not finished.
        DataError: a case validates two folds.
    """
    for place in places:
        check_finished(place, "final")
    folds = tuple(_validation(place, changes, overlays, progress) for place in places)
    check_folds(folds)
    scores = FoldScores(folds, _together(folder / "test", places, changes, progress))
    if os.access(folder, os.W_OK):
        with writing(folder / "folds.json"):
            write_text(folder / "scores.csv", scores.all.to_csv())
            write_text(folder / "scores.md", scores.all.to_markdown())
            write_text(folder / "folds.json", json.dumps(scores.to_dict(), indent=1) + "\n")
    return scores


def read_folds(folder: Path) -> FoldScores | None:
    """Read what the folds scored; nothing is computed.

    Args:
        folder: Of the cross-validation.

    Returns:
        The scores; None before all folds were scored.

    Raises:
        DataError: a damaged table, or folds that were scored by different protocols.
    """
    found = [evaluation_folder(place, "final", "val") for place in fold_runs(folder)]
    if not (folder / "folds.json").is_file() or not all((one / "scores.csv").is_file() for one in found):
        return None
    folds = tuple(read_evaluation(one) for one in found)
    check_folds(folds)
    test = folder / "test"
    return FoldScores(folds, read_evaluation(test) if (test / "scores.csv").is_file() else None)


def is_cross_validation(folder: Path) -> bool:
    """Return whether a folder holds the runs of a cross-validation, rather than a run of its own."""
    return not (folder / "recipe.toml").is_file() and any((r / "recipe.toml").is_file() for r in fold_runs(folder))


def finished_folds(folder: Path) -> list[Path]:
    """Return the run folder of each fold.

    Args:
        folder: Of the cross-validation.

    Returns:
        All of them.

    Raises:
        RunError: folds that the recipe asks for are missing.
    """
    places = fold_runs(folder)
    planned = planned_folds(places)
    if len(places) < planned:
        raise RunError(
            f"{folder} holds {len(places)} of {planned} folds.",
            hint=f"lomix run RECIPE --folds {planned} --folder {folder} --resume",
        )
    return places


def planned_folds(places: Sequence[Path]) -> int:
    """Return how many folds a cross-validation has, finished or not, as the recipe of its first fold says."""
    folds = load_recipe(places[0] / "recipe.toml").data.settings.get("folds")
    return folds if isinstance(folds, int) else len(places)


def _validation(place: Path, changes: Sequence[str], overlays: int, progress: bool) -> Evaluation:
    """Return what a fold's network scores on the cases that validated it; scored once for each network."""
    known = None if overlays else _known(evaluation_folder(place, "final", "val"), [place], changes)
    return known or evaluate_run(place, "final", subset="val", changes=changes, overlays=overlays, progress=progress)


def _together(folder: Path, places: Sequence[Path], changes: Sequence[str], progress: bool) -> Evaluation | None:
    """Return what all networks together score on the test cases; None where there are none."""
    recipe = load_recipe(places[0] / "recipe.toml", changes)
    splits = recipe.build_data()
    if not len(splits.volumes.get("test", ())):
        return None
    if known := _known(folder, places, changes):
        return known
    networks = [load_trained(place).predictor for place in places]
    save = folder if os.access(folder.parent, os.W_OK) else None
    return recipe.score(networks, splits, "test", save=save, progress=progress)


def _known(folder: Path, places: Sequence[Path], changes: Sequence[str]) -> Evaluation | None:
    """Return scores that were written after the networks were trained, by the protocol that is asked for."""
    path = folder / "scores.csv"
    if not path.is_file() or path.stat().st_mtime < max((p / "final.pt").stat().st_mtime for p in places):
        return None
    found = read_evaluation(path)
    return found if found.protocol == load_recipe(places[0] / "recipe.toml", changes).evaluate.protocol else None
