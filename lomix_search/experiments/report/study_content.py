"""What a page tells of a study: read from its storage, or without Optuna from the run folders of its trials."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lomix_search.errors import MissingExtraError, RunError, require
from lomix_search.experiments.listing import is_run, name_in_runs, summarize_run
from lomix_search.experiments.run_differences import flat
from lomix_search.training.trackers import read_lines
from lomix_search.utils.files import read_toml

_GOAL = "val.dice.best"


@dataclass(frozen=True)
class TrialContent:
    """One trial of a study.

    Args:
        number: Its number.
        state: ``complete``, ``pruned``, ``running``, ``waiting`` or ``fail``.
        values: What it came to, one for each goal; empty before the end.
        settings: What it tried, by dotted key.
        folder: Name of its run folder.
        seconds: How long it ran; NaN where that is not known.
        reason: Why it failed or was pruned.
        curve: (step, validation score) as they came.
    """

    number: int
    state: str
    values: tuple[float, ...]
    settings: Mapping[str, Any]
    folder: str = ""
    seconds: float = math.nan
    reason: str = ""
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class StudyContent:
    """A study, read.

    Args:
        name: Of its folder, as a command takes it.
        recipe: Name of the recipe that it tunes.
        goals: Name of each goal and whether a larger value is better.
        trials: All trials.
        best: Numbers of the best trials, the best first; with two goals the whole front.
        importances: How much each setting mattered, shares that add up to 1; empty where that cannot be said.
        log: Settings that are drawn on a logarithmic scale.
    """

    name: str
    recipe: str
    goals: tuple[tuple[str, bool], ...]
    trials: tuple[TrialContent, ...]
    best: tuple[int, ...]
    importances: Mapping[str, float]
    log: frozenset[str] = frozenset()

    @property
    def done(self) -> list[TrialContent]:
        """Trials with a value, in order."""
        return [t for t in self.trials if t.state == "complete" and t.values and math.isfinite(t.values[0])]

    def trial(self, number: int) -> TrialContent:
        """Return a trial by its number."""
        return next(t for t in self.trials if t.number == number)


def read_study_content(folder: Path) -> StudyContent:
    """Read a study; without Optuna, what its run folders tell.

    Args:
        folder: The study's folder.

    Returns:
        All that a page shows of it.

    Raises:
        RunError: no study there, or its storage cannot be reached.
    """
    try:
        return _from_storage(folder)
    except MissingExtraError:
        return _from_folders(folder)


def _from_storage(folder: Path) -> StudyContent:
    require("optuna", "tune")
    from lomix_search.experiments.tune.best import best_trials
    from lomix_search.experiments.tune.opening import open_study
    from lomix_search.experiments.tune.parameters import decode
    from lomix_search.experiments.tune.plots import importances

    study, recipe = open_study(folder)
    tune = recipe.tune
    found = tuple(_trial(t, partial(decode, tune=tune)) for t in study.trials if "surplus" not in t.user_attrs)
    goals = [(tune.metric, tune.direction == "maximize"), *([(tune.cost, False)] if tune.cost else [])]
    best = tuple(t.number for t in best_trials(study, recipe))
    log = frozenset(key for key, value in tune.ranges.items() if value.log)
    return StudyContent(name_in_runs(folder), recipe.name, tuple(goals), found, best, importances(study, recipe), log)


def _trial(trial: Any, decode: Callable[[Any], dict[str, Any]]) -> TrialContent:
    noted = trial.user_attrs
    try:
        settings = decode(trial.params)
    except KeyError:  # it waits, or has not drawn all yet
        settings = dict(trial.params)
    return TrialContent(
        trial.number,
        trial.state.name.lower(),
        tuple(trial.values or ()),
        {key: value for key, value in settings.items() if value is not None},
        f"trial_{trial.number:04d}",
        trial.duration.total_seconds() if trial.duration else math.nan,
        _reason(trial.state.name.lower(), noted),
        tuple(sorted(trial.intermediate_values.items())),
    )


def _reason(state: str, noted: Mapping[str, Any]) -> str:
    if "reason" in noted:
        return str(noted["reason"])
    if "over_limit" in noted:
        return f"over its limit: {noted['over_limit']}"
    broken = "its process ended without a word; run again as another trial"
    return "pruned: worse than the others at this point" if state == "pruned" else broken if state == "fail" else ""


def _from_folders(folder: Path) -> StudyContent:
    """Read the run folders of a study's trials; goals and importances are Optuna's to tell."""
    folders = [path for path in sorted(folder.glob("trial_*")) if is_run(path)]
    recipes = [flat(read_toml(path / "recipe.toml", RunError)) for path in folders]
    tried = [k for k in dict.fromkeys(key for r in recipes for key in r) if len({str(r.get(k)) for r in recipes}) > 1]
    trials = []
    for path, recipe in zip(folders, recipes, strict=True):
        run, number = summarize_run(path), int(path.name.removeprefix("trial_"))
        states = {"finished": "complete", "running": "running"}
        value = run.metrics.get(_GOAL, math.nan) if run.state == "finished" else math.nan
        curve = tuple((line["step"], line["val/dice"]) for line in read_lines(path / "metrics.jsonl") if _scored(line))
        settings = {key: recipe[key] for key in tried if key in recipe and key not in ("name", "about")}
        values = () if math.isnan(value) else (value,)
        state = states.get(run.state, "fail")
        trials.append(TrialContent(number, state, values, settings, path.name, math.nan, run.reason, curve))
    done = sorted((t for t in trials if t.values), key=lambda t: -t.values[0])
    name = str(recipes[0].get("name", folder.name)) if recipes else folder.name
    best = tuple(t.number for t in done[:1])
    return StudyContent(name_in_runs(folder), name, ((_GOAL, True),), tuple(trials), best, {})


def _scored(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("val/dice"), float)
