"""The best trials of a study, as recipes ready to run."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from lomix_search.errors import RunError
from lomix_search.experiments.listing import number_text
from lomix_search.experiments.tune.parameters import decode
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.files import write_text


def best_trials(study: optuna.Study, recipe: Recipe, top: int = 1) -> list[FrozenTrial]:
    """Return the best completed trials within all limits, the best first.

    Args:
        study: The study.
        recipe: What it tunes.
        top: How many; ignored for a study with a cost, which gives its whole front, by falling metric.

    Returns:
        The trials; fewer where fewer are there.
    """
    up = recipe.tune.direction == "maximize"
    if recipe.tune.cost is not None:
        return sorted(_front(study), key=lambda t: t.values[0], reverse=up)
    done = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if kept_limits(t)]
    return sorted(done, key=lambda t: (-t.values[0] if up else t.values[0], t.number))[:top]


def _front(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.best_trials if kept_limits(trial)]


def kept_limits(trial: FrozenTrial) -> bool:
    """Whether a trial stayed within all limits."""
    return all(excess <= 0 for excess in trial.user_attrs.get("over", ()))


def recipe_of(trial: FrozenTrial, study: optuna.Study, recipe: Recipe) -> Recipe:
    """Return the recipe that a trial ran.

    Args:
        trial: A trial.
        study: Its study.
        recipe: What the study tunes.

    Returns:
        The recipe with the trial's values in it.
    """
    metric = goals_text(recipe, trial.values or ())
    about = f'trial {trial.number} of the study "{study.study_name}": {metric}'
    return recipe.override({**decode(trial.params, recipe.tune), "about": about})


def goals_text(recipe: Recipe, values: Sequence[float]) -> str:
    """Write what a trial came to, each goal with its name: ``val.dice.best 0.8123, seconds 0.21``."""
    goals = (recipe.tune.metric, *([recipe.tune.cost] if recipe.tune.cost else []))
    return ", ".join(f"{goal} {number_text(goal, value)}" for goal, value in zip(goals, values, strict=False))


def write_best(study: optuna.Study, recipe: Recipe, path: Path, top: int = 1) -> list[Path]:
    """Write the best trials as recipes.

    Args:
        study: The study.
        recipe: What it tunes.
        path: The file; several are numbered: ``best-1.toml``, ``best-2.toml``.
        top: As in :func:`best_trials`.

    Returns:
        The files written.

    Raises:
        RunError: no trial has completed.
    """
    trials = best_trials(study, recipe, top)
    if not trials:
        said = f'no trial of the study "{study.study_name}" has completed within its limits.'
        raise RunError(said, hint="lomix tune status STUDY   # says what became of its trials")
    several = len(trials) > 1
    paths = [path.with_stem(f"{path.stem}-{i}") if several else path for i in range(1, len(trials) + 1)]
    for trial, one in zip(trials, paths, strict=True):
        write_text(one, recipe_of(trial, study, recipe).to_toml())
    return paths
