"""How a study stands: its trials by state, the best of them, what runs where, and why others failed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lomix_search.experiments.tune.best import best_trials
from lomix_search.experiments.tune.parameters import decode
from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.tuning import TuneSection

_NEWEST = 5  # reasons that a table shows


@dataclass(frozen=True)
class TrialSummary:
    """One trial at a glance.

    Args:
        number: Its number.
        state: complete, pruned, running, waiting or fail.
        values: By goal; empty before the end.
        settings: What it tries, by dotted key; without those that are switched off.
        folder: Name of its run folder in that of the study; empty before it began.
        host: The machine that took it; empty before.
        reason: Why it failed, or which limit ended it; empty otherwise.
    """

    number: int
    state: str
    values: Mapping[str, float]
    settings: Mapping[str, Any]
    folder: str
    host: str
    reason: str


@dataclass(frozen=True)
class StudyOverview:
    """A study at a glance.

    Args:
        study: Its name.
        recipe: Name of the recipe that it tunes.
        goals: Names of what trials are compared by; the first decides, a second one is the cost.
        wanted: Finished trials that the recipe asks for.
        states: Number of trials by state.
        best: The best trials, the best first; with a cost the front.
        running: Those under way.
        ended: Those that failed or went over a limit, the newest first.
    """

    study: str
    recipe: str
    goals: tuple[str, ...]
    wanted: int
    states: Mapping[str, int]
    best: tuple[TrialSummary, ...]
    running: tuple[TrialSummary, ...]
    ended: tuple[TrialSummary, ...]

    @property
    def lines(self) -> list[str]:
        """The states, what runs and what failed, in words."""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items())) or "no trial yet"
        runs = [f"trial {t.number} runs on {t.host or 'a machine not named yet'}" for t in self.running]
        failed = [f"trial {t.number}: {t.reason.splitlines()[0]}" for t in self.ended[:_NEWEST]]
        return [f'study "{self.study}": {counts}', *runs, *failed]


def overview(study: optuna.Study, recipe: Recipe, top: int = 1) -> StudyOverview:
    """Say how a study stands.

    Args:
        study: The study.
        recipe: What it tunes.
        top: How many of the best; ignored for a study with a cost, which gives its whole front.

    Returns:
        The overview.
    """
    tune = recipe.tune
    goals = (tune.metric, *([tune.cost] if tune.cost else []))
    trials = [t for t in study.get_trials(deepcopy=False) if "surplus" not in t.user_attrs]
    told = {t.number: _summary(t, goals, tune) for t in trials}
    return StudyOverview(
        study.study_name,
        recipe.name,
        goals,
        tune.trials,
        dict(Counter(one.state for one in told.values())),
        tuple(told[t.number] for t in best_trials(study, recipe, top)),
        tuple(told[t.number] for t in trials if t.state == TrialState.RUNNING),
        tuple(one for one in reversed(told.values()) if one.reason),
    )


def _summary(trial: FrozenTrial, goals: tuple[str, ...], tune: TuneSection) -> TrialSummary:
    noted = trial.user_attrs
    try:
        settings = decode(trial.params, tune)
    except KeyError:  # it waits, or has not drawn all yet
        settings = dict(trial.params)
    reason = noted.get("reason") or (f"over its limit: {noted['over_limit']}" if "over_limit" in noted else "")
    return TrialSummary(
        trial.number,
        trial.state.name.lower(),
        dict(zip(goals, trial.values or (), strict=False)),
        {key: value for key, value in settings.items() if value is not None},
        str(noted.get("folder", "")),
        str(noted.get("host", "")),
        str(reason),
    )
