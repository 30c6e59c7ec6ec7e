"""What the runs of a comparison say: means, paired differences with interval and test, cost, agreement of seeds.

Differences are paired by seed and by patient: one seed gives all strategies the same network, items and order, and all
are scored on the same cases. Where every run has its scores by case, intervals and p-values are those of a mean over
other seeds and other patients (:func:`~lomix_search.evaluation.statistics.crossed_change`); else over seeds alone.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lomix_search.evaluation.statistics import crossed_change, deviation, holm, patient_parts, student_change
from lomix_search.experiments.compare.strategy_run import CaseDice, StrategyRun
from lomix_search.experiments.run_differences import weights_agree
from lomix_search.mixture.mixture import Mixture

_Floats = NDArray[np.float64]
BASELINES = ("last_layer", "deep_supervision", "uniform")
"""What a strategy is compared with where these were run, the first of them before the others."""
SET_WEIGHTINGS = ("uniform", "halving", "random", "fixed", "anneal")
"""Weightings that follow a rule and no data: there is nothing found that seeds could agree on."""


@dataclass(frozen=True)
class Paired:
    """A strategy minus a baseline, over the seeds that both finished.

    Args:
        difference: Mean.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided; below 0.05 exactly where the interval leaves 0 out.
        changes: One a pair, in the order of the seeds.
        patients: How many the interval is over, beside the seeds; 0: over the seeds alone.
        p_holm: p corrected for all strategies that are compared with the baseline at this part of the labels.
    """

    difference: float
    low: float
    high: float
    p: float
    changes: tuple[float, ...]
    patients: int = 0
    p_holm: float = math.nan

    @property
    def pairs(self) -> int:
        """How many seeds both have."""
        return len(self.changes)


@dataclass(frozen=True)
class StrategyRow:
    """A strategy at one part of the labels.

    Args:
        strategy: Its label.
        labels: Part of the training items.
        dice: Test Dice of the final network, one a seed.
        mean: Their mean.
        spread: Their standard deviation (n − 1), NaN for one seed.
        against: Differences to the baselines that were run.
        seconds: Time of a step.
        tau: Kendall's τ-b between the mixtures of two seeds, mean over pairs; NaN where weights are not found or equal.
        overlap: Part of their eight strongest maps that two seeds share, mean over pairs.
    """

    strategy: str
    labels: float
    dice: tuple[float, ...]
    mean: float
    spread: float
    against: Mapping[str, Paired]
    seconds: float
    tau: float
    overlap: float


def compare_by_seed(runs: Sequence[StrategyRun], baseline: str | None = None) -> list[StrategyRow]:
    """Compare strategies seed by seed and patient by patient.

    Args:
        runs: All finished runs.
        baseline: Label of a strategy to compare with, beside those of ``BASELINES``.

    Returns:
        One row a strategy and part of the labels, few labels first, then in the order of the runs.
    """
    groups: dict[tuple[float, str], list[StrategyRun]] = {}
    for run in runs:
        groups.setdefault((run.labels, run.strategy), []).append(run)
    bases = tuple(dict.fromkeys([*([baseline] if baseline else []), *BASELINES]))
    rows = [_row(labels, group, groups, bases) for (labels, _), group in groups.items()]
    return sorted(_corrected(rows), key=lambda row: row.labels)


def _row(
    labels: float,
    group: Sequence[StrategyRun],
    groups: Mapping[tuple[float, str], Sequence[StrategyRun]],
    bases: Sequence[str],
) -> StrategyRow:
    strategy, values = group[0].strategy, np.array([run.dice for run in group])
    others = {name: groups[labels, name] for name in bases if name != strategy and (labels, name) in groups}
    against = {name: paired_runs(group, base) for name, base in others.items()}
    mixtures = [run.mixture for run in group if run.mixture is not None]
    found = mixtures and mixtures[0].weighting not in SET_WEIGHTINGS
    tau, overlap = agreement(mixtures) if found else (math.nan, math.nan)
    seconds = float(np.median([run.seconds for run in group]))
    mean = float(values.mean())
    return StrategyRow(strategy, labels, tuple(values), mean, deviation(values), against, seconds, tau, overlap)


def _corrected(rows: Sequence[StrategyRow]) -> list[StrategyRow]:
    """Correct the p-values of all strategies that are compared with one baseline at one part of the labels."""
    families: dict[tuple[float, str], dict[str, float]] = {}
    for row in rows:
        for name, pair in row.against.items():
            families.setdefault((row.labels, name), {})[row.strategy] = pair.p
    found = {family: holm(values) for family, values in families.items()}
    return [
        replace(
            row,
            against={
                name: replace(pair, p_holm=found[row.labels, name][row.strategy]) for name, pair in row.against.items()
            },
        )
        for row in rows
    ]


def paired_runs(runs: Sequence[StrategyRun], base: Sequence[StrategyRun]) -> Paired:
    """Compare two strategies over the seeds that both have, and over the patients where all are scored on the same.

    Args:
        runs: Of one strategy, one a seed.
        base: Of the other.

    Returns:
        The paired difference.
    """
    by_seed = paired({run.seed: run.dice for run in runs}, {run.seed: run.dice for run in base})
    both = {run.seed for run in runs} & {run.seed for run in base}
    ones, others = (_tested([run for run in group if run.seed in both]) for group in (runs, base))
    if not ones or not others or not all(one.pairs_with(ones[0]) for one in (*ones, *others)):
        return by_seed
    parts = np.array([_parts(one) - _parts(other) for one, other in zip(ones, others, strict=True)])
    if np.isnan(parts).any():
        return by_seed
    found = crossed_change(parts)
    return replace(by_seed, low=found.low, high=found.high, p=found.p, patients=parts.shape[1])


def _tested(runs: Sequence[StrategyRun]) -> list[CaseDice]:
    """Return the scores by case in the order of the seeds; nothing where one run has none."""
    found = [run.tested for run in sorted(runs, key=lambda run: run.seed)]
    return [one for one in found if one is not None] if None not in found else []


def _parts(tested: CaseDice) -> _Floats:
    return patient_parts(tested.dice, np.array(tested.patients))


def paired(scores: Mapping[int, float], base: Mapping[int, float]) -> Paired:
    """Compare two strategies over the seeds that both have.

    Args:
        scores: By seed.
        base: By seed.

    Returns:
        The paired difference by Student's t over the seeds; interval and p are NaN for a single pair.
    """
    seeds = sorted(seed for seed in scores if seed in base)
    change = np.array([scores[seed] - base[seed] for seed in seeds])
    found = student_change(change)
    return Paired(found.mean, found.low, found.high, found.p, tuple(change.tolist()))


def agreement(mixtures: Sequence[Mixture]) -> tuple[float, float]:
    """Say how alike the mixtures of several seeds are.

    Args:
        mixtures: One a seed.

    Returns:
        Mean Kendall τ-b over all pairs, and the mean part of the eight strongest maps that two share; NaN for one seed.
    """
    pairs = [weights_agree(one, other) for one, other in itertools.combinations(mixtures, 2)]
    taus, shares = [tau for tau, _ in pairs], [share for _, share in pairs]
    known = [tau for tau in taus if not math.isnan(tau)]
    return (float(np.mean(known)) if known else math.nan), (float(np.mean(shares)) if shares else math.nan)
