"""What the runs of a comparison say: means, paired differences with interval and test, cost, agreement of seeds."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lomix_search.evaluation.statistics import deviation, student_margin, wilcoxon_p
from lomix_search.experiments.results import read_results
from lomix_search.experiments.run_differences import weights_agree
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_lines

_Floats = NDArray[np.float64]
BASELINES = ("deep_supervision", "last_layer", "uniform")


@dataclass(frozen=True)
class StrategyRun:
    """One finished run.

    Args:
        strategy: Its label.
        labels: Part of the training items used.
        seed: Its seed.
        dice: Mean test Dice of the final network.
        seconds: Median time of a step; looks at held-out data are spread over the steps.
        mixture: What was found.
    """

    strategy: str
    labels: float
    seed: int
    dice: float
    seconds: float
    mixture: Mixture


@dataclass(frozen=True)
class Paired:
    """A strategy minus a baseline, over the seeds that both finished.

    Args:
        difference: Mean.
        low: Lower end of the 95 % interval of Student's t.
        high: Upper end.
        changes: One a pair, in the order of the seeds.
        p: Of the two-sided Wilcoxon signed-rank test; it cannot fall below 2/2ⁿ for n seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    changes: tuple[float, ...]

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


def read_strategy_run(folder: Path, strategy: str, labels: float, seed: int) -> StrategyRun:
    """Read a finished run.

    Args:
        folder: Its folder, with results.json.
        strategy: Label of its strategy.
        labels: Part of the training items used.
        seed: Its seed.

    Returns:
        The run.
    """
    tested = read_results(folder)["final"].mean
    mixture = Mixture.load(folder / "mixture.json")
    return StrategyRun(strategy, labels, seed, math.nan if tested is None else tested, _seconds(folder), mixture)


def compare_by_seed(runs: Sequence[StrategyRun], searched: Sequence[str]) -> list[StrategyRow]:
    """Compare strategies seed by seed.

    Args:
        runs: All finished runs.
        searched: Labels of the strategies whose mixtures are found.

    Returns:
        One row a strategy and part of the labels, few labels first, then in the order of the runs.
    """
    groups: dict[tuple[float, str], list[StrategyRun]] = {}
    for run in runs:
        groups.setdefault((run.labels, run.strategy), []).append(run)
    rows = []
    for (labels, strategy), group in groups.items():
        scores = {run.seed: run.dice for run in group}
        others = {
            name: {run.seed: run.dice for run in groups[labels, name]} for name in BASELINES if (labels, name) in groups
        }
        against = {name: paired(scores, base) for name, base in others.items() if name != strategy}
        values = np.array(list(scores.values()))
        spread = deviation(values)
        tau, overlap = agreement([run.mixture for run in group]) if strategy in searched else (math.nan, math.nan)
        seconds = float(np.median([run.seconds for run in group]))
        rows.append(
            StrategyRow(strategy, labels, tuple(values), float(values.mean()), spread, against, seconds, tau, overlap)
        )
    return sorted(rows, key=lambda row: row.labels)


def paired(scores: Mapping[int, float], base: Mapping[int, float]) -> Paired:
    """Compare two strategies over the seeds that both have.

    Args:
        scores: By seed.
        base: By seed.

    Returns:
        The paired difference; interval and p are NaN for a single pair.
    """
    seeds = sorted(seed for seed in scores if seed in base)
    change = np.array([scores[seed] - base[seed] for seed in seeds])
    if len(change) < 2:
        return Paired(
            float(change.mean()) if len(change) else math.nan, math.nan, math.nan, math.nan, tuple(change.tolist())
        )
    mean, half = float(change.mean()), student_margin(change)
    return Paired(mean, mean - half, mean + half, wilcoxon_p(change), tuple(change.tolist()))


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


def _seconds(folder: Path) -> float:
    """Return the time of a step: the median of plain ones, plus what looks took beyond that, spread over all."""
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "train/step_seconds" in line]
    plain = [line["train/step_seconds"] for line in lines if "lookahead/slopes" not in line]
    looked = [line["train/step_seconds"] for line in lines if "lookahead/slopes" in line]
    if not plain or not looked:
        return float(np.median(plain or looked or [math.nan]))
    usual = float(np.median(plain))
    return usual + max(0.0, float(np.median(looked)) - usual) * len(looked) / len(lines)
