"""A comparison as figures: every seed's score and its difference to a baseline, and validation over the training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.experiments.compare.strategy_run import StrategyRun
from lomix_search.experiments.compare.verdict import StrategyRow
from lomix_search.experiments.compare.verdict_table import baselines_of, share_of
from lomix_search.experiments.figures import OKABE_ITO, new_figure, save_figure

_SEED, _MEAN = "#56B4E9", "#D55E00"


def draw_verdict(path: Path, rows: Sequence[StrategyRow], baseline: str | None = None) -> None:
    """Draw every seed's score, and its difference to a baseline at the same seed with its interval.

    Args:
        path: The PNG to write.
        rows: The verdict; each part of the labels gets a row of panels.
        baseline: What to compare with; the first of ``baselines_of`` when left out.
    """
    parts = list(dict.fromkeys(row.labels for row in rows))
    names = list(dict.fromkeys(row.strategy for row in rows))
    base = next(iter(baselines_of(rows, baseline)), None)
    figure = new_figure(9.6 if base else 6.4, (0.3 * len(names) + 1.0) * len(parts) + 0.4)
    axes = figure.subplots(len(parts), 2 if base else 1, squeeze=False, sharey=True)
    for panels, part in zip(axes, parts, strict=True):
        chosen = {len(names) - names.index(row.strategy): row for row in rows if row.labels == part}
        _scores(panels[0], chosen, share_of(part))
        if base:
            _changes(panels[1], chosen, base)
        panels[0].set_yticks(range(len(names), 0, -1), names)
        panels[0].set_ylim(0.4, len(names) + 0.6)  # the outermost marks lie whole inside
    axes[-1][0].plot([], [], "o", color=_SEED, label="a seed")
    axes[-1][0].plot([], [], "|", color=_MEAN, ms=12, mew=2.4, label="mean")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    save_figure(figure, path)


def draw_curves(path: Path, runs: Sequence[StrategyRun]) -> None:
    """Draw validation Dice by step: the mean over the seeds of each strategy, and their standard deviation around it.

    Args:
        path: The PNG to write; nothing is written where no run validated.
        runs: The runs; each part of the labels gets a panel.
    """
    parts = list(dict.fromkeys(sorted(run.labels for run in runs if run.curve)))
    names = list(dict.fromkeys(run.strategy for run in runs))
    if not parts:
        return
    figure = new_figure(4.8 * min(len(parts), 3) + 2.8, 3.9 * -(-len(parts) // 3))
    panels = figure.subplots(-(-len(parts) // 3), min(len(parts), 3), squeeze=False).ravel()
    for axis in panels[len(parts) :]:
        axis.set_visible(False)
    for axis, part in zip(panels, parts, strict=False):
        for place, name in enumerate(names):
            _curve(axis, place, [run.curve for run in runs if (run.strategy, run.labels) == (name, part) and run.curve])
        axis.set(title=share_of(part), xlabel="step", ylabel="validation Dice")
        axis.locator_params(axis="x", integer=True)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for place, name in enumerate(names):
        panels[0].plot([], [], **_line(place), label=name if not name.startswith("_") else f" {name}")
    figure.legend(loc="outside right center", frameon=False, title="mean ± standard deviation\nover seeds")
    save_figure(figure, path)


def _curve(axis: Any, place: int, curves: Sequence[Mapping[int, float]]) -> None:
    """Draw one strategy over the steps at which it was validated, each mean over the seeds that have the step."""
    steps = sorted({step for curve in curves for step in curve})
    scores = [np.array([curve[step] for curve in curves if step in curve]) for step in steps]
    means = np.array([found.mean() for found in scores])
    spread = np.array([found.std(ddof=1) if len(found) > 1 else 0.0 for found in scores])
    axis.plot(steps, means, **_line(place), marker="o" if len(steps) < 2 else "")
    axis.fill_between(steps, means - spread, means + spread, color=_line(place)["color"], alpha=0.12, lw=0)


def _line(place: int) -> dict[str, Any]:
    """Return colour and dashes of a strategy, told apart for as many as eight colours and four dashes give."""
    dashes = ("-", "--", ":", "-.")[place // len(OKABE_ITO) % 4]
    return {"color": OKABE_ITO[place % len(OKABE_ITO)], "ls": dashes, "lw": 1.8}


def _scores(axis: Any, rows: Mapping[int, StrategyRow], title: str) -> None:
    for y, row in rows.items():
        axis.plot(row.dice, [y] * len(row.dice), "o", color=_SEED, alpha=0.75, ms=5)
        axis.plot([row.mean], [y], "|", color=_MEAN, ms=12, mew=2.4)
    _frame(axis, title, "test Dice")


def _changes(axis: Any, rows: Mapping[int, StrategyRow], base: str) -> None:
    axis.axvline(0, color="0.5", lw=1)
    for y, row in rows.items():
        pair = row.against.get(base)
        if pair is not None and pair.pairs:
            axis.plot(pair.changes, [y] * pair.pairs, "o", color=_SEED, alpha=0.75, ms=5)
            axis.plot([pair.low, pair.high], [y, y], color=_MEAN, lw=1.4)
            axis.plot([pair.difference], [y], "|", color=_MEAN, ms=12, mew=2.4)
    known = [row.against[base].patients for row in rows.values() if base in row.against]
    over = "seeds and patients" if known and all(known) else "seeds"
    _frame(axis, f"minus {base} of the same seed", f"difference in test Dice\n95 % over {over}")


def _frame(axis: Any, title: str, label: str) -> None:
    axis.set(title=title, xlabel=label)
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
