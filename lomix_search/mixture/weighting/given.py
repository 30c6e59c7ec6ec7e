"""Weights that are given, not learned: those of a mixture, uniform ones, random ones."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, list_ids, weighting


class Fixed(Weighting):
    """Given weights that stay as they are; maps of weight 0 are skipped and cost nothing.

    Args:
        maps: The maps to weigh.
        weights: One weight a map, finite and ≥ 0, at least one > 0.
        name: The word for it in mixture files.

    Raises:
        LossError: the weights do not fit the maps.
    """

    given: Tensor

    def __init__(self, maps: Sequence[Map], weights: Sequence[float] | Tensor, name: str = "fixed") -> None:
        super().__init__(maps)
        self.name = name
        values = [float(w) for w in weights]
        check_weights(values, self.map_ids)
        self.register_buffer("given", torch.tensor(values))
        self._positive = tuple(w != 0 for w in self.given.tolist())

    def weights(self) -> Tensor:
        """Return the given weights."""
        return self.given * self.kept

    def active(self) -> tuple[bool, ...]:
        """Say which weights are not 0."""
        return tuple(kept and positive for kept, positive in zip(self._kept, self._positive, strict=True))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Keep ``active`` in step with the weights when others are loaded."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._positive = tuple(bool(w != 0) for w in self.given.tolist())


@weighting("uniform")
def uniform_weights(maps: Sequence[Map]) -> Weighting:
    """Weight 1 for every map: plain deep supervision, MUTATION, or the paper's "equal weights"."""
    return Fixed(maps, [1.0] * len(maps), "uniform")


@weighting("halving")
def halving_weights(maps: Sequence[Map]) -> Weighting:
    """Halve the weight from stage to stage: nnU-Net's deep supervision, wₖ = m·2^−dₖ / Σ 2^−d.

    dₖ is the distance of a map's coarsest stage from the finest one; of several stages the coarsest is left out, as
    nnU-Net does (``nnUNetTrainer._build_loss``). The weights add up to m, as those of all weightings here do.

    Args:
        maps: The maps to weigh.

    Returns:
        The weighting.
    """
    coarsest = [min(m.scales) for m in maps]
    lowest, finest = min(coarsest), max(coarsest)
    shares = [0.0 if c == lowest < finest else 2.0 ** (c - finest) for c in coarsest]
    return Fixed(maps, [share * len(maps) / sum(shares) for share in shares], "halving")


@weighting("random")
def random_weights(maps: Sequence[Map], seed: Annotated[int, Field(ge=0)] = 0) -> Weighting:
    """Draw weights once, uniformly among those that add up to m: a baseline that any search should beat.

    Args:
        maps: The maps to weigh.
        seed: The same seed gives the same weights on every device; the global random state is left alone.

    Returns:
        The weighting.
    """
    draws = torch.rand(len(maps), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = -torch.log1p(-draws)  # exponential draws, normalised: uniform on the simplex
    return Fixed(maps, shares / shares.sum() * len(maps), "random")


@weighting("fixed")
def _fixed_by_name(maps: Sequence[Map]) -> Weighting:
    """Stand for a recipe's ``weighting.mixture``, which ``run`` reads: the weights come with maps of their own."""
    raise LossError(
        f'weighting "fixed" needs the {len(maps)} weights.',
        hint=["from lomix_search.mixture.weighting import Fixed", "MixtureLoss(…, weighting=Fixed(maps, weights))"],
    )


def check_weights(values: Sequence[float], ids: tuple[str, ...], title: str = "Fixed") -> None:
    """Refuse weights that do not fit the maps.

    Args:
        values: One weight a map.
        ids: The maps.
        title: Whose weights they are, for the message.

    Raises:
        LossError: another number of weights, a weight that is negative or not finite, or only weights of 0.
    """
    call = f"{title}(maps, {'given=' if title == 'Anneal' else ''}"
    if len(values) != len(ids):
        raise LossError(
            f"{title} has {len(values)} weights; these are {len(ids)} maps.",
            seen=list_ids(ids),
            hint=f"{call}[1.0] * {len(ids)})   # one for each map, equal ones here",
        )
    held = torch.tensor(values).tolist()  # as they will be: 1e39 is infinite then, 1e-60 is 0
    wrong = [f"{name}: {w}" for name, w, h in zip(ids, values, held, strict=True) if not 0 <= h < float("inf")]
    if wrong:
        raise LossError(
            f"{title} has {len(wrong)} weights that are negative or not finite.",
            seen=wrong,
            hint=f"{call}torch.tensor(weights).nan_to_num(0, 0, 0).clamp_min(0).tolist())   # such maps left out",
        )
    if not any(held):
        raise LossError(
            f"{title} has only weights of 0; nothing would be trained.",
            hint=f"{call}[1.0] * {len(ids)})   # equal ones",
        )
