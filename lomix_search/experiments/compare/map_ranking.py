"""How much each map helped on held-out data, over a whole training: a score beyond its weight.

A run of the weighting ``lookahead`` (with ``rate = 0`` the weights stay uniform, and it only measures) leaves the
slopes aₖ = ⟨v/‖v‖, gₖ⟩ of every look in its log. Leaving map k out of the steps around a look changes the held-out loss
after them, to first order and for plain gradient steps, by η·wₖ·‖v‖·aₖ each.
"""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import MixtureError, RunError
from lomix_search.evaluation.statistics import mean_and_margin
from lomix_search.experiments.listing import unfinished
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_lines
from lomix_search.utils.terminal import Table, telling_digits

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MapScore:
    """One map's part in what training did to the held-out loss.

    Args:
        id: The map.
        weight: Its weight at the end.
        effect: By how much the held-out loss would have been higher at a step without it, in the mean over the looks,
            as a part of the sum of all maps' absolute effects: 0.1 means a tenth; below 0 the map did harm.
        low: Lower end of the 95 % interval of ``effect`` over the looks.
        high: Upper end.
        agreement: Mean normalised slope; with ``normalize = "norm"`` the cosine between the map's gradient and the
            held-out one.
        looks: Looks it was measured in.
    """

    id: str
    weight: float
    effect: float
    low: float
    high: float
    agreement: float
    looks: int

    def in_words(self) -> tuple[str, str, str]:
        """Return effect, interval and agreement as tables write them."""
        low, high, effect = (_signed(value, "+.1%") for value in (self.low, self.high, self.effect))
        interval = f"{low} … {high}" if math.isfinite(self.low) else "–"  # of one look there is none
        return effect, interval, _signed(self.agreement, "+.3f")


@dataclass(frozen=True)
class MapRanking:
    """The maps of a run by their effect, strongest first.

    Args:
        mixture: What the run found.
        scores: One a map.
    """

    mixture: Mixture
    scores: tuple[MapScore, ...]

    def derive(self, top: int) -> Mixture:
        """Keep the maps of largest effect, each with weight 1, and the finest original among them.

        Args:
            top: How many maps.

        Returns:
            A mixture to train with.

        Raises:
            MixtureError: fewer than one map.
        """
        if top < 1:
            raise MixtureError(f"derive(top={top}): at least one map must stay.", hint="derive(top=8)")
        by_effect = {score.id: float(len(self.scores) - i) for i, score in enumerate(self.scores)}
        order = tuple(MapWeight(id=name, weight=by_effect.get(name, 0.0)) for name in self.mixture.weights)
        kept = self.mixture.model_copy(update={"maps": order}).prune(top=top)
        even = tuple(MapWeight(id=m.id, weight=1.0) for m in kept.maps)
        return kept.model_copy(update={"maps": even, "weighting": "ranked"}).with_operators(kept.operators)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return plain values for a JSON file, strongest first."""
        return [vars(score) | {} for score in self.scores]

    def __rich__(self) -> Table:
        return self.table()

    def table(self, top: int | None = None) -> Table:
        """Lay out as a table. Weights that are all alike, as where they were only measured with, have no column.

        Args:
            top: Only so many of the strongest; how many more there are is told.
        """
        looks, weights = max(score.looks for score in self.scores), [score.weight for score in self.scores]
        alike, digits = min(weights) == max(weights), telling_digits(weights, 4)
        counted = f"{looks} look{'s' * (looks != 1)}"
        title = f"leaving one map out, {counted}{f'; all weights are {weights[0]:.3g}' if alike else ''}"
        more = len(self.scores) - (top or len(self.scores))
        table = Table("rank", "map", title=title, caption=f"… and {more} more" if more > 0 else None)
        for head in (*(() if alike else ("weight",)), "effect", "95 % interval", "agreement"):
            table.add_column(head)
        for rank, s in enumerate(self.scores[:top], 1):
            table.add_row(str(rank), s.id, *(() if alike else (f"{s.weight:.{digits}f}",)), *s.in_words())
        return table


def _signed(value: float, form: str) -> str:
    """Write a number with its sign, but not where it is rounded to 0, for there a sign means nothing; – for NaN."""
    if not math.isfinite(value):
        return "–"
    written = format(value, form)
    return written if re.search("[1-9]", written) else written[1:]


def has_looked(run: Path) -> bool:
    """Tell whether a finished run looked at held-out data, so that its maps can be ranked."""
    return (run / "mixture.json").is_file() and Mixture.load(run / "mixture.json").weighting == "lookahead"


def rank_maps(folder: Path) -> MapRanking:
    """Rank the maps of a finished run of ``lookahead``.

    Args:
        folder: The run folder.

    Returns:
        The ranking.

    Raises:
        RunError: no finished run, or one that never looked at held-out data.
    """
    if not (folder / "mixture.json").is_file():
        raise unfinished(folder)
    mixture = Mixture.load(folder / "mixture.json")
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "lookahead/slopes" in line]
    if not lines:
        raise RunError(
            f'the run in {folder} was weighted by "{mixture.weighting}" and never looked at held-out data.',
            hint=f"{shlex.join(['lomix', 'rank', str(folder / 'recipe.toml')])}   # runs it with uniform weights",
        )
    return MapRanking(mixture, score_maps(mixture, lines))


def score_maps(mixture: Mixture, lines: Sequence[Mapping[str, Any]]) -> tuple[MapScore, ...]:
    """Average the looks of a run.

    The interval is that of a mean of correlated values: its standard error is widened by √((1 + r)/(1 − r)), r the
    correlation between one look and the next.

    Args:
        mixture: What the run found.
        lines: Its log's lines with looks.

    Returns:
        One score a map, strongest first.
    """
    slopes, weights, agreements = (
        _matrix(lines, key) for key in ("lookahead/slopes", "mixture/weights", "lookahead/scores")
    )
    sizes = np.array([[line["train/lr"] * line.get("lookahead/length", 1.0)] for line in lines])
    effects = np.where(np.isnan(slopes), 0.0, slopes * weights * sizes)  # a dropped map has no effect any more
    total = np.abs(effects.mean(0)).sum() or 1.0
    scores = []
    for i, m in enumerate(mixture.maps):
        mean, half = mean_and_margin(effects[:, i] / total)
        looks = int((~np.isnan(slopes[:, i])).sum())
        agreement = float(np.nanmean(agreements[:, i])) if looks else 0.0
        scores.append(MapScore(m.id, m.weight, mean, mean - half, mean + half, agreement, looks))
    return tuple(sorted(scores, key=lambda score: -score.effect))


def _matrix(lines: Sequence[Mapping[str, Any]], key: str) -> _Floats:
    """Return (looks, m); null is NaN."""
    return np.array([[math.nan if v is None else v for v in line[key]] for line in lines], dtype=np.float64)
