"""``lomix evaluate``: a finished run's network on whole cases, at native size, by the recipe's protocol."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.build import build_net
from lomix_search.experiments.environment import check_learned, read_environments
from lomix_search.experiments.trained import check_finished, load_network, predictor_of
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.run_folder import sweep


def evaluate_run(
    folder: Path,
    network: str = "final",
    *,
    subset: str = "test",
    changes: Sequence[str] = (),
    overlays: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Score a finished run's network on whole cases of its recipe, at native size, by the recipe's protocol.

    Args:
        folder: The run folder; tables and predictions go to :func:`evaluation_folder`.
        network: ``"final"``, or ``"best"`` on validation.
        subset: ``"test"``, or ``"val"``: the cases that validated, which chose ``best.pt``.
        changes: ``key=value`` changes of the recipe, e.g. ``evaluate.protocol=transunet``.
        overlays: Number of cases to draw.
        progress: Show a progress bar.

    Returns:
        All scores.

    Raises:
        RunError: no such network or subset, not a finished run, or one that learned other classes or regions.
    """
    if subset not in (known := ("test", "val")):
        raise RunError(f"--on {subset}: unknown. {nearest(subset, known)}")
    check_finished(folder, network)
    recipe = load_recipe(folder / "recipe.toml", changes)
    splits = recipe.build_data()
    check_learned(folder, read_environments(folder), splits)
    net = build_net(recipe, splits)  # so that its outputs are read as they were in training
    load_network(net, recipe, folder, network)
    sweep(folder / "evaluation", age=3600)
    save = _writable(evaluation_folder(folder, network, subset))
    chosen: Literal["test", "val"] = "val" if subset == "val" else "test"
    return recipe.score(predictor_of(net, recipe), splits, chosen, save=save, overlays=overlays, progress=progress)


def evaluation_folder(folder: Path, network: str, subset: str) -> Path:
    """Return where ``evaluate_run`` leaves what it found: ``evaluation/final`` or ``evaluation/final-val``."""
    return folder / "evaluation" / (network if subset == "test" else f"{network}-{subset}")


def _writable(folder: Path) -> Path | None:
    """Return the folder, made; None with a warning where it cannot be written to, as on someone else's disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as cause:
        warnings.warn(f"tables and predictions are not written: {folder}: {cause.strerror}", stacklevel=3)
        return None
