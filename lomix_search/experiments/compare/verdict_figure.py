"""The verdict on strategies as a figure: every seed's score, and its difference to a baseline of the same seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lomix_search.experiments.compare.verdict import StrategyRow
from lomix_search.experiments.compare.verdict_table import baselines_of
from lomix_search.experiments.figures import new_figure, save_figure

_SEED, _MEAN = "#56B4E9", "#D55E00"


def draw_verdict(path: Path, rows: Sequence[StrategyRow]) -> None:
    """Draw every seed's score, and its difference to the last layer (or another baseline) at the same seed.

    Args:
        path: The PNG to write.
        rows: The verdict; each part of the labels gets a row of panels.
    """
    parts = list(dict.fromkeys(row.labels for row in rows))
    names = list(dict.fromkeys(row.strategy for row in rows))
    base = next((name for name in ("last_layer", *baselines_of(rows)) if name in baselines_of(rows)), None)
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


def _scores(axis: Any, rows: Mapping[int, StrategyRow], title: str) -> None:
    for y, row in rows.items():
        axis.plot(row.dice, [y] * len(row.dice), "o", color=_SEED, alpha=0.75, ms=5)
        axis.plot([row.mean], [y], "|", color=_MEAN, ms=14, mew=2.4)
    _frame(axis, title, "test Dice")


def _changes(axis: Any, rows: Mapping[int, StrategyRow], base: str) -> None:
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
