"""The outer search: Optuna varies what a recipe declares under ``[tune]``; every trial is a whole run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lomix_search.errors import LomixError, RecipeError, RunError, nearest, require
from lomix_search.recipe import Recipe
from lomix_search.run import run_recipe
from lomix_search.typed import write_text


def tune(
    recipe: Recipe,
    trials: int | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Any:
    """Tune the outer hyperparameters of a recipe.

    The first trial takes the recipe's own values. The study lives in ``folder/journal.log`` and each trial in a run
    folder of its own; a killed study goes on with ``resume``, its broken trial is run again from its checkpoint.

    Args:
        recipe: A recipe with ``[tune.ranges]``.
        trials: Finished trials in all, earlier ones of a resumed study included; the recipe's number by default.
        folder: The study's folder; ``runs/<recipe>-tune`` by default.
        resume: Go on with the folder's study.
        console: Where to report each trial; silent by default.

    Returns:
        The ``optuna.Study``; ``study.best_trial.params`` are the best values by dotted key.

    Raises:
        RecipeError: the recipe declares no ranges.
        RunError: the folder holds a study already and ``resume`` is off, or every trial failed.
        MissingExtraError: Optuna is not installed.
    """
    optuna = require("optuna", "tune")
    if not recipe.tune.ranges:
        raise RecipeError(
            f'recipe "{recipe.name}" declares nothing to tune.',
            hint=['[tune.ranges."optimizer.lr"]', "low = 1e-4", "high = 1e-2", "log = true"],
        )
    home = Path(folder or Path("runs") / f"{recipe.name}-tune")
    study = _open(optuna, recipe, home, resume)
    wanted = trials or recipe.tune.trials
    say = console or Console(quiet=True)
    while (left := wanted - _finished(optuna, study)) > 0:
        say.rule(f"trial {wanted - left + 1} of {wanted}")
        _one(optuna, study, recipe, home, say)
    if not any(trial.value is not None for trial in study.trials):
        reasons = [f"trial {t.number}: {t.user_attrs.get('reason', '')}" for t in study.trials][:5]
        raise RunError("every trial of the study failed.", seen=reasons)
    best = recipe.override(study.best_trial.params)
    write_text(home / "best.toml", best.to_toml())
    say.print(f"best: trial {study.best_trial.number} with {study.best_value:.4f}; its recipe: {home / 'best.toml'}")
    return study


def _open(optuna: Any, recipe: Recipe, home: Path, resume: bool) -> Any:
    journal = home / "journal.log"
    if journal.exists() and not resume:
        raise RunError(f"{home} holds a study already.", hint=["add --resume to go on with it", "or --folder ANOTHER"])
    home.mkdir(parents=True, exist_ok=True)
    backend = require("optuna.storages.journal", "tune").JournalFileBackend(str(journal))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=recipe.name,
        storage=optuna.storages.JournalStorage(backend),
        direction=recipe.tune.direction,
        load_if_exists=True,
    )
    # Named, because Optuna 4 and 5 differ in their defaults; the seed moves on with the study, or a resumed one would
    # draw its first values again.
    study.sampler = optuna.samplers.TPESampler(
        seed=recipe.search.seed + len(study.trials), multivariate=True, constant_liar=True, n_startup_trials=5
    )
    if not study.trials:
        study.enqueue_trial(_own_values(recipe))
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:  # its process is gone
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"goes_on": trial.user_attrs.get("folder", "")})
    return study


def _one(optuna: Any, study: Any, recipe: Recipe, home: Path, say: Console) -> None:
    """Run one trial; a trial that fails is recorded with its reason, and the study goes on."""
    trial = study.ask()
    folder = home / (trial.user_attrs.get("goes_on") or f"trial_{trial.number:04d}")
    trial.set_user_attr("folder", folder.name)
    trial.set_user_attr("pid", os.getpid())
    varied = recipe.override({key: _suggest(trial, key, value) for key, value in recipe.tune.ranges.items()})
    say.print("  ".join(f"{key}={_short(value)}" for key, value in trial.params.items()), highlight=False)
    try:
        outcome = run_recipe(varied, folder, resume=True, console=console_of(say), score_test=False)
        value = _metric(outcome.result.mixture.provenance.metrics, recipe.tune.metric)
    except (LomixError, RuntimeError, ValueError) as error:
        trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        say.print(f"[red]failed[/red]: {str(error).splitlines()[0]}")
        return
    study.tell(trial, value)
    say.print(f"{recipe.tune.metric} {value:.4f}", highlight=False)


def console_of(say: Console) -> Console | None:
    """Return the console, or None for a quiet one."""
    return None if say.quiet else say


def _suggest(trial: Any, key: str, value: Any) -> Any:
    if value.choices is not None:
        return trial.suggest_categorical(key, value.choices)
    if value.integer:
        return trial.suggest_int(key, int(value.low), int(value.high), log=value.log)
    return trial.suggest_float(key, value.low, value.high, log=value.log)


def _own_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's own values of what is tuned, where it has them."""
    own = {}
    for key in recipe.tune.ranges:
        value: Any = recipe.model_dump(by_alias=True)
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            own[key] = value
    return own


def _metric(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise RecipeError(f'tune.metric = "{name}": unknown. {nearest(name, metrics)}')
    return metrics[name]


def _finished(optuna: Any, study: Any) -> int:
    """Count the trials that came to an end; a broken one that is queued again does not count twice."""
    states = optuna.trial.TrialState
    ended = [t for t in study.trials if t.state in (states.COMPLETE, states.PRUNED)]
    failed = [t for t in study.trials if t.state == states.FAIL and "reason" in t.user_attrs]
    return len(ended) + len(failed)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
