"""Runs of a comparison made up of numbers: known effects of strategy, seed and patient, and noise."""

from collections.abc import Mapping

import numpy as np

from lomix_search.experiments.compare.strategy_run import CaseDice, StrategyRun
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace


def mixture(weights: list[float], weighting: str = "lookahead") -> Mixture:
    space = SearchSpace.load("mutation")
    maps = tuple(MapWeight(id=m.id, weight=w) for m, w in zip(space.maps(3), weights, strict=True))
    return Mixture(space=space, num_classes=2, num_maps=3, weighting=weighting, maps=maps)


def strategy_runs(
    effects: Mapping[str, float], seeds: int = 5, patients: int = 20, labels: float = 1.0, noise: float = 0.01
) -> list[StrategyRun]:
    """Two classes, one case a patient; strategies are told apart by their effect alone."""
    rng = np.random.default_rng(0)
    shared = 0.8 + rng.normal(0, 0.02, (seeds, 1, 1)) + rng.normal(0, 0.05, (patients, 1))
    names = tuple(f"case{i}" for i in range(patients))
    runs = []
    for name, effect in effects.items():
        for seed in range(seeds):
            dice = shared[seed] + effect + rng.normal(0, noise, (patients, 2))
            tested = CaseDice(names, names, ("large", "small"), dice)
            weighting = "uniform" if name in ("last_layer", "uniform") else "lookahead"
            found = mixture([1.0, 2, 3, 4, 5, 6, 7 + seed], weighting)
            curve = {100: 0.5 + effect, 200: 0.7 + effect}
            runs.append(StrategyRun(name, labels, seed + 1, float(dice.mean()), 0.5, found, tested, curve))
    return runs
