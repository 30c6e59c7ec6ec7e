"""What the folds of a cross-validation found: the share of each map in every fold, and whether they agree."""

import math
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from lomix_search.errors import RunError
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.run_differences import weights_agree
from lomix_search.mixture.mixture import Mixture
from lomix_search.utils.terminal import Table, telling_digits


@dataclass(frozen=True)
class MapShare:
    """One map over the folds.

    Args:
        id: The map.
        shares: Its part of the sum of weights in each fold, in the order of the folds.
        ranks: Its place in each fold, from 1.
    """

    id: str
    shares: tuple[float, ...]
    ranks: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean of the shares."""
        return math.fsum(self.shares) / len(self.shares)


@dataclass(frozen=True)
class FoundMaps:
    """The maps of all folds.

    Args:
        maps: By falling mean share.
        agreement: Mean of Kendall's τ-b between the weights of two folds, over all pairs; NaN where there is no order.
        first: The mixture of the first fold, for its space.
    """

    maps: tuple[MapShare, ...]
    agreement: float
    first: Mixture

    @property
    def words(self) -> str:
        """Whether the folds agree, in a sentence."""
        if math.isnan(self.agreement):
            return "The weights have no order that folds could agree in."
        return (
            f"Kendall's τ between the weights of two folds is {self.agreement:+.2f} at the mean: 1 is the same order."
        )

    def table(self, top: int | None = None) -> Table:
        """Lay the maps out, the strongest first; all of them where ``top`` is left out."""
        folds = len(self.maps[0].shares)
        title = f"{self.first.space.name} by {self.first.weighting}: {len(self.maps)} maps in {folds} folds"
        table = Table("rank", "map", "mean share", "shares", "ranks in the folds", title=title, caption=self.words)
        digits = telling_digits(share for one in self.maps for share in one.shares) - 2
        for rank, one in enumerate(self.maps[:top], 1):
            spread = f"{min(one.shares):.{digits}%} – {max(one.shares):.{digits}%}"
            table.add_row(str(rank), one.id, f"{one.mean:.{digits}%}", spread, " ".join(map(str, one.ranks)))
        return table

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return what the table shows, for JSON."""
        maps = [{"rank": rank, **asdict(one), "mean": one.mean} for rank, one in enumerate(self.maps[:top], 1)]
        first = self.first
        told = {"space": first.space.name, "weighting": first.weighting, "stages": first.num_maps}
        return {**told, "kendall_tau": self.agreement, "maps": maps}


def found_maps(folder: Path) -> FoundMaps | None:
    """Read the mixtures of all folds.

    Args:
        folder: Of the cross-validation.

    Returns:
        Their maps; None where a fold has no mixture yet.

    Raises:
        RunError: the folds found mixtures of different maps.
        MixtureError: one is damaged.
    """
    files = [place / "mixture.json" for place in fold_runs(folder)]
    if not files or not all(path.is_file() for path in files):
        return None
    mixtures = [Mixture.load(path) for path in files]
    if len({frozenset(one.weights) for one in mixtures}) > 1:
        raise RunError(
            f"{folder}: the folds found mixtures of different maps.", hint=[f"lomix show {path}" for path in files[:4]]
        )
    places = [{m.id: rank for rank, m in enumerate(one.ranked(), 1)} for one in mixtures]
    totals = [one.concentration().total or 1.0 for one in mixtures]
    maps = [
        MapShare(
            name,
            tuple(one.weights[name] / total for one, total in zip(mixtures, totals, strict=True)),
            tuple(place[name] for place in places),
        )
        for name in mixtures[0].weights
    ]
    pairs = [weights_agree(a, b)[0] for a, b in combinations(mixtures, 2)]
    agreement = math.fsum(pairs) / len(pairs) if pairs else math.nan
    return FoundMaps(tuple(sorted(maps, key=lambda one: -one.mean)), agreement, mixtures[0])
