"""What the runs of a comparison say: means, paired differences with interval and test, cost, agreement of seeds."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import MixtureError
from lomix_search.evaluation.statistics import student_margin, wilcoxon_p
from lomix_search.experiments.pictures import new_figure, save_figure
from lomix_search.experiments.results import read_results
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_lines
from lomix_search.utils.terminal import Table

Floats = NDArray[np.float64]
BASELINES = ("deep_supervision", "last_layer", "uniform")
TOP = 8


@dataclass(frozen=True)
class Run:
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
class Row:
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


def read_run(folder: Path, strategy: str, labels: float, seed: int) -> Run:
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
    return Run(strategy, labels, seed, math.nan if tested is None else tested, _seconds(folder), mixture)


def judge(runs: Sequence[Run], searched: Sequence[str]) -> list[Row]:
    """Compare strategies seed by seed.

    Args:
        runs: All finished runs.
        searched: Labels of the strategies whose mixtures are found.

    Returns:
        One row a strategy and part of the labels, few labels first, then in the order of the runs.
    """
    groups: dict[tuple[float, str], list[Run]] = {}
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
        spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        tau, overlap = agreement([run.mixture for run in group]) if strategy in searched else (math.nan, math.nan)
        seconds = float(np.median([run.seconds for run in group]))
        rows.append(Row(strategy, labels, tuple(values), float(values.mean()), spread, against, seconds, tau, overlap))
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
    taus, shares = [], []
    for one, other in itertools.combinations(mixtures, 2):
        try:
            taus.append(one.compare(other))
        except MixtureError:  # too few maps in common for an order
            taus.append(math.nan)
        first, second = ({m.id for m in mixture.ranked()[:TOP]} for mixture in (one, other))
        shares.append(len(first & second) / min(len(first), len(second)))
    known = [tau for tau in taus if not math.isnan(tau)]
    return (float(np.mean(known)) if known else math.nan), (float(np.mean(shares)) if shares else math.nan)


# -- showing -----------------------------------------------------------------------------------------------------------


def to_table(rows: Sequence[Row]) -> Table:
    """Lay the verdict out as a table."""
    bases = _bases(rows)
    table = Table(*_head(bases), title="test Dice of the final networks")
    for row in rows:
        table.add_row(*_cells(row, bases))
    return table


def to_markdown(rows: Sequence[Row]) -> str:
    """Write the verdict as Markdown."""
    head = _head(bases := _bases(rows))
    lines = [head, ["---"] * len(head), *(_cells(row, bases) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def to_json(rows: Sequence[Row]) -> str:
    """Write the verdict as JSON; NaN becomes null."""
    return json.dumps([_plain(asdict(row)) for row in rows], indent=2) + "\n"


def draw_verdict(path: Path, rows: Sequence[Row]) -> None:
    """Draw every seed's score, and its difference to the last layer (or another baseline) at the same seed.

    Args:
        path: The PNG to write.
        rows: The verdict; each part of the labels gets a row of panels.
    """
    parts = list(dict.fromkeys(row.labels for row in rows))
    names = list(dict.fromkeys(row.strategy for row in rows))
    base = next((name for name in ("last_layer", *_bases(rows)) if name in _bases(rows)), None)
    figure = new_figure(9.6 if base else 6.4, (0.3 * len(names) + 1.0) * len(parts) + 0.4)
    axes = figure.subplots(len(parts), 2 if base else 1, squeeze=False, sharey=True)
    for panels, part in zip(axes, parts, strict=True):
        chosen = {len(names) - names.index(row.strategy): row for row in rows if row.labels == part}
        _scores(panels[0], chosen, f"{part:.0%} of the training items")
        if base:
            _changes(panels[1], chosen, base)
        panels[0].set_yticks(range(len(names), 0, -1), names)
    axes[-1][0].plot([], [], "o", color=_SEED, label="a seed")
    axes[-1][0].plot([], [], "|", color=_MEAN, ms=14, mew=2.4, label="mean; of differences with 95 % interval")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    save_figure(figure, path)


_SEED, _MEAN = "#56B4E9", "#D55E00"


def _scores(axis: Any, rows: Mapping[int, Row], title: str) -> None:
    for y, row in rows.items():
        axis.plot(row.dice, [y] * len(row.dice), "o", color=_SEED, alpha=0.75, ms=5)
        axis.plot([row.mean], [y], "|", color=_MEAN, ms=14, mew=2.4)
    _frame(axis, title, "test Dice")


def _changes(axis: Any, rows: Mapping[int, Row], base: str) -> None:
    axis.axvline(0, color="0.5", lw=1)
    for y, row in rows.items():
        pair = row.against.get(base)
        if pair is not None and pair.pairs:
            axis.plot(pair.changes, [y] * pair.pairs, "o", color=_SEED, alpha=0.75, ms=5)
            axis.plot([pair.low, pair.high], [y, y], color=_MEAN, lw=1.4)
            axis.plot([pair.difference], [y], "|", color=_MEAN, ms=14, mew=2.4)
    _frame(axis, f"minus {base} of the same seed", "difference in test Dice")


def _frame(axis: Any, title: str, label: str) -> None:
    axis.set(title=title, xlabel=label)
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _bases(rows: Sequence[Row]) -> list[str]:
    """Name the baselines that were run beside something else."""
    return [name for name in BASELINES if any(name in row.against for row in rows)]


def _head(bases: Sequence[str]) -> list[str]:
    minus = [f"− {name.replace('_', ' ')}" for name in bases]
    return ["labels", "strategy", "mean ± spread", *minus, "s/step", "τ", "top 8 shared", "n"]


def _cells(row: Row, bases: Sequence[str]) -> list[str]:
    pairs = [_pair(row.against.get(name)) for name in bases]
    stable = [_number(row.tau, "+.2f"), _number(row.overlap, ".0%")]
    mean = f"{row.mean:.4f} ± {_number(row.spread, '.4f')}"
    return [f"{row.labels:g}", row.strategy, mean, *pairs, f"{row.seconds:.3f}", *stable, str(len(row.dice))]


def _pair(pair: Paired | None) -> str:
    if pair is None:
        return "–"
    if math.isnan(pair.low):
        return f"{pair.difference:+.4f}"
    return f"{pair.difference:+.4f} ({pair.low:+.4f} … {pair.high:+.4f}, p {pair.p:.2g})"


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _seconds(folder: Path) -> float:
    """Return the time of a step: the median of plain ones, plus what looks took beyond that, spread over all."""
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "train/step_seconds" in line]
    plain = [line["train/step_seconds"] for line in lines if "lookahead/slopes" not in line]
    looked = [line["train/step_seconds"] for line in lines if "lookahead/slopes" in line]
    if not plain or not looked:
        return float(np.median(plain or looked or [math.nan]))
    usual = float(np.median(plain))
    return usual + max(0.0, float(np.median(looked)) - usual) * len(looked) / len(lines)
