"""Optuna's samplers and pruners as a recipe names them; every choice is explicit, because defaults change."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.tuning import SamplerSection


class PerTrial(optuna.samplers.BaseSampler):
    """One of Optuna's samplers, seeded anew for each trial from the recipe's seed and the trial's place in the study.

    A study that was stopped and resumed therefore draws what an unbroken one draws, and no two workers draw alike.

    Args:
        recipe: Names sampler and seed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._now = self._build(0)

    def _build(self, slot: int) -> optuna.samplers.BaseSampler:
        tune = self._recipe.tune
        seed = (self._recipe.search.seed * 1_000_003 + slot) % 2**32
        conditional = any(given.when for given in tune.ranges.values())
        return build_sampler(tune.sampler, seed, conditional, limited=bool(tune.limits))

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed, then do what the sampler does."""
        self._now = self._build(int(trial.user_attrs.get("slot", 0)))
        self._now.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Ask the sampler."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the sampler."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Ask the sampler."""
        return self._now.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the sampler."""
        self._now.after_trial(study, trial, state, values)


def build_sampler(given: SamplerSection, seed: int, conditional: bool, limited: bool) -> optuna.samplers.BaseSampler:
    """Build a sampler.

    Args:
        given: As the recipe says.
        seed: Of its random numbers.
        conditional: Some keys are varied only with others: TPE then models each group of keys that come together.
        limited: The study has limits. Optuna 5 is told of them trial by trial, Optuna 4 asks a function.

    Returns:
        The sampler.
    """
    asks = limited and not hasattr(optuna.Trial, "set_constraint")
    constraints: dict[str, Any] = {"constraints_func": _broken} if asks else {}
    if given.name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if given.name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=given.population, seed=seed, **constraints)
    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=given.startup_trials,
        multivariate=True,
        group=conditional,
        constant_liar=True,
        **constraints,
    )


def build_pruner(recipe: Recipe) -> optuna.pruners.BasePruner:
    """Build the pruner that a recipe names."""
    given, search = recipe.tune.pruner, recipe.search
    if given.name == "median":
        return optuna.pruners.MedianPruner(given.startup_trials, given.warmup_steps)
    if given.name == "hyperband":
        first = min(search.validate_every, search.steps)
        return optuna.pruners.HyperbandPruner(first, search.steps, given.reduction_factor)
    return optuna.pruners.NopPruner()


def note_limits(trial: optuna.Trial, over: Mapping[str, float]) -> None:
    """Record by how much each limit is broken, in the way of the installed Optuna."""
    trial.set_user_attr("over", list(over.values()))
    if hasattr(trial, "set_constraint"):
        for name, excess in over.items():
            trial.set_constraint(name, excess)


def _broken(trial: FrozenTrial) -> Sequence[float]:
    return tuple(trial.user_attrs.get("over", ()))
