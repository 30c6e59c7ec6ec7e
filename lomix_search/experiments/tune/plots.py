"""Pictures of a study, drawn by Optuna: its history, what mattered, the curves of its trials, the front."""

import importlib.util
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.files import write_bytes

_ENOUGH = 10  # finished trials


def draw_study(study: optuna.Study, recipe: Recipe, folder: Path) -> list[Path]:
    """Draw every picture that the finished trials suffice for.

    Args:
        study: The study.
        recipe: What it tunes.
        folder: Where the pictures go: history.png, importance.png, curves.png, front.png.

    Returns:
        The pictures; none where matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    drawn = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in _pictures(study, recipe, len(done)).items():
            drawn[folder / f"{name}.png"] = _png(draw)
    for path, content in drawn.items():
        write_bytes(path, content)
    return list(drawn)


def _pictures(study: optuna.Study, recipe: Recipe, done: int) -> dict[str, Callable[[], Any]]:
    plot, tune = optuna.visualization.matplotlib, recipe.tune
    goals: dict[str, Any] = {"target_name": tune.metric}
    if tune.cost is not None:
        goals["target"] = lambda trial: trial.values[0]
    pictures: dict[str, Callable[[], Any]] = {}
    if done:
        pictures["history"] = lambda: plot.plot_optimization_history(study, **goals)
    if done and tune.cost is not None:
        names = [tune.metric, str(tune.cost)]
        pictures["front"] = lambda: plot.plot_pareto_front(study, target_names=names)
    if done and tune.cost is None:
        pictures["curves"] = lambda: plot.plot_intermediate_values(study)
    if importances(study, recipe):
        pictures["importance"] = lambda: plot.plot_param_importances(study, evaluator=_evaluator(), **goals)
    return pictures


def importances(study: optuna.Study, recipe: Recipe) -> dict[str, float]:
    """Return how much each parameter mattered, by Optuna's PED-ANOVA; empty while that cannot be said.

    Args:
        study: The study.
        recipe: What it tunes.

    Returns:
        Shares that add up to 1, of the parameters that all trials have, the largest first. Fewer than ten finished
        trials say nothing of that: the share is what chance gave.
    """
    if sum(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)) < _ENOUGH:
        return {}
    target = (lambda trial: trial.values[0]) if recipe.tune.cost is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(optuna.importance.get_param_importances(study, evaluator=_evaluator(), target=target))
        except (ValueError, RuntimeError, ZeroDivisionError):  # too few trials, or all alike
            return {}


def _evaluator() -> Any:
    return optuna.importance.PedAnovaImportanceEvaluator()


def _png(draw: Callable[[], Any]) -> bytes:
    import matplotlib
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    with matplotlib.rc_context():  # Optuna sets a style
        figure = draw().get_figure()
        figure.savefig(file, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return file.getvalue()
