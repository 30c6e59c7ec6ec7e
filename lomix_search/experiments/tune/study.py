"""The outer search: Optuna varies what a recipe declares under ``[tune]``; every trial is a whole run."""

import random
import signal
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from lomix_search.errors import RunError
from lomix_search.experiments.tune.best import best_trials, goals_text, kept_limits, write_best
from lomix_search.experiments.tune.opening import join_study
from lomix_search.experiments.tune.parameters import starting_points
from lomix_search.experiments.tune.plots import draw_study
from lomix_search.experiments.tune.storage import StudyStorage
from lomix_search.experiments.tune.study_progress import StudyProgress
from lomix_search.experiments.tune.trial import Failed, Objective, Surplus, tell_stopped
from lomix_search.experiments.tune.trial_processes import leading, wait_along
from lomix_search.experiments.tune.trial_queue import Survey, fill, survey
from lomix_search.experiments.tune.workers import Workers
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.progress import Stop
from lomix_search.utils.terminal import plain

_POLL = 1.0  # seconds between two looks at the trials of other workers
_HEAD_START = 5.0  # seconds that the maker of a study gets to queue its trials


def run_study(
    recipe: Recipe,
    wanted: int,
    home: Path,
    place: StudyStorage,
    name: str,
    *,
    resume: bool,
    leave: bool,
    say: Console,
) -> optuna.Study:
    """Make or join a study and work on it until it is done.

    Args:
        recipe: What to tune.
        wanted: Number of finished trials.
        home: The study's folder on this machine.
        place: Where the study lives.
        name: The study's name.
        resume: Join a study that exists.
        leave: Go when no trial is left to start, without waiting for those of other workers.
        say: Where to report.

    Returns:
        The study.

    Raises:
        RunError: it exists and ``resume`` is off, is of another recipe, or every trial failed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if place.journal is not None and place.journal.exists() and not resume:
        raise RunError(f"{home} holds a study already.", hint=["add --resume to go on with it", "or --folder ANOTHER"])
    home.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study, made = join_study(recipe, place, name, home, say=lambda text: say.print(plain((text, "yellow"))))
        workers = Workers(study, place.journal)
        if not made:
            _let_its_maker_begin(study)
        with workers.at_work(), leading(), Stop(signal.SIGTERM) as stop:
            _work(study, recipe, wanted, home, workers, leave, say, stop)
    _report(study, recipe, home, say)
    return study


def _work(
    study: optuna.Study,
    recipe: Recipe,
    wanted: int,
    home: Path,
    workers: Workers,
    leave: bool,
    say: Console,
    stop: Stop,
) -> None:
    """Take trials until there are none, or until asked to stop between two; a search that runs stops by itself."""
    first, objective = starting_points(recipe), Objective(recipe, home, workers.name, say)
    progress, waits = StudyProgress(wanted, say), False
    while not stop.asked:
        workers.fail_dead()
        found = survey(study.get_trials(deepcopy=False), wanted)
        if reason := stop_reason(study, recipe, found):
            say.print(plain(f"the study stops: {reason}"))
            return
        if found.empty:
            _fill(study, found, wanted, first)
        elif found.waiting:
            progress.show(found, best_trials(study, recipe))
            _one(study, objective, recipe, say)
            waits = False
        elif not found.running or leave:
            return
        else:
            if not waits:
                say.print(plain(f"waiting for {len(found.running)} trials of other workers"))
            waits = True
            wait_along()
            time.sleep(random.uniform(0.5, 1.5) * _POLL)
    if stop.asked == signal.SIGINT:  # during the last step of a trial, which came to its end
        raise KeyboardInterrupt
    say.print(plain("stopped between two trials; to go on: the same command with --resume"))


def _fill(study: optuna.Study, found: Survey, wanted: int, first: Sequence[Mapping[str, Any]]) -> None:
    """Queue the empty slots, unless another worker is faster."""
    if study.get_trials(deepcopy=False):
        time.sleep(random.uniform(0, _POLL))
        found = survey(study.get_trials(deepcopy=False), wanted)
    fill(study, found, first)


def _one(study: optuna.Study, objective: Objective, recipe: Recipe, say: Console) -> None:
    """Run the next trial of the queue."""
    objective.forget()
    try:
        study.optimize(objective, n_trials=1, catch=(Failed, Surplus))
    except (SystemExit, KeyboardInterrupt):
        if objective.current is not None:
            tell_stopped(study, objective.current)
        raise
    except (optuna.exceptions.OptunaError, ValueError, AssertionError):
        if objective.current is None or not _taken_away(study, objective.current):
            raise
        say.print(plain("this trial was given to another worker: there was no sign of life from here"))
        return
    assert objective.current is not None
    trial = study.get_trials(deepcopy=False)[objective.current]
    if trial.state == TrialState.COMPLETE:
        say.print(plain(f"done: {goals_text(recipe, trial.values)}"))
    elif trial.state == TrialState.PRUNED:
        why = trial.user_attrs.get("over_limit", f"at step {trial.last_step}")
        say.print(plain(f"pruned: {why}"))


def _taken_away(study: optuna.Study, number: int) -> bool:
    trial = study.get_trials(deepcopy=False)[number]
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def stop_reason(study: optuna.Study, recipe: Recipe, found: Survey) -> str | None:
    """Say why a study needs no more trials, None while it does.

    Args:
        study: The study.
        recipe: Says when to stop.
        found: Where the study stands.

    Returns:
        The reason, in words.
    """
    tune, best = recipe.tune, best_trials(study, recipe)
    if not best:
        return None
    up = tune.direction == "maximize"
    value = best[0].values[0]
    if tune.target is not None and (value >= tune.target if up else value <= tune.target):
        return f"{goals_text(recipe, [value])} has reached its target {tune.target:g}"
    newest = max(trial.number for trial in best)
    since = sum(trial.number > newest for trial in found.finished)
    if tune.patience is not None and since >= tune.patience:
        return f"{since} trials in a row were no better"
    return None


def _let_its_maker_begin(study: optuna.Study) -> None:
    """Wait while the process that has just made the study queues its trials."""
    until = time.monotonic() + _HEAD_START
    before, now = None, len(study.get_trials(deepcopy=False))
    while now != before or now == 0:
        if now == 0 and time.monotonic() > until:
            return
        time.sleep(0.3)
        before, now = now, len(study.get_trials(deepcopy=False))


def _report(study: optuna.Study, recipe: Recipe, home: Path, say: Console) -> None:
    """Write the best recipe and the pictures; raise if nothing came out of the study."""
    if not best_trials(study, recipe):
        trials = [t for t in study.get_trials(deepcopy=False) if "reason" in t.user_attrs or not kept_limits(t)]
        seen = [f"trial {t.number}: {t.user_attrs.get('reason') or t.user_attrs.get('over_limit')}" for t in trials]
        if seen:
            raise RunError(
                "every trial of the study failed.",
                seen=[line.splitlines()[0] for line in seen[:5]],
                hint="lomix tune status STUDY   # says why each failed",
            )
        return
    paths = write_best(study, recipe, home / "best.toml")
    pictures = draw_study(study, recipe, home)
    say.print(plain(f"best: {', '.join(map(str, paths))}"))
    if pictures:
        say.print(plain(f"drawn: {', '.join(map(str, pictures))}"))
