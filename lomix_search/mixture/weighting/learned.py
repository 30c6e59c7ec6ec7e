"""Weights that are parameters, learned by the optimizer that trains the network."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, weighting

_Positive = Annotated[float, Field(gt=0)]


@weighting("softplus")
class Softplus(Weighting):
    """The paper's: wₖ = softplus(θₖ), θ = 0 at the start, so that w = log 2 ≈ 0.693.

        L(θ) = Σₖ softplus(θₖ)·ℓₖ,   ∂L/∂θₖ = σ(θₖ)·ℓₖ ≥ 0

    Every gradient is ≥ 0, so a weight can only fall, and under Adam all fall at nearly the same speed. The order of the
    weights says something; their size says mostly how long training ran.

    Source: LoMix (NeurIPS 2025), the one-step search.
    """

    name = "softplus"

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__(maps)
        self.theta = nn.Parameter(torch.zeros(len(self.map_ids)))

    def weights(self) -> Tensor:
        """Return softplus(θ)."""
        return F.softplus(self.theta) * self.kept


@weighting("normalized")
class Normalized(Weighting):
    """Softplus weights brought to a constant sum S, with a term that rewards entropy. θ = 0 at the start.

        wₖ = S·pₖ,   pₖ = softplus(θₖ) / R,   R = Σⱼ softplus(θⱼ)
        L(θ) = Σₖ wₖ·ℓₖ − τ·S·H(p),   H(p) = −Σₖ pₖ·log pₖ
        ∂L/∂θₖ = S·σ(θₖ)/R · (aₖ − Σⱼ pⱼ·aⱼ),   aₖ = ℓₖ + τ·log pₖ

    The gradient vanishes where all aₖ are equal: the fixed point is pₖ ∝ exp(−ℓₖ/τ). So weights drift to the easiest
    maps, and farther the smaller τ is; with τ = 0 all weight ends on the map of least loss. The term moves only the
    weights, never the network.

    Args:
        maps: The maps to weigh.
        entropy: τ ≥ 0, in units of the loss.
        total: S; m·log 2 by default, which starts every weight where the paper's does.
        lr: Learning rate of θ, without weight decay; None: as the network's.
    """

    name = "normalized"

    def __init__(
        self,
        maps: Sequence[Map],
        entropy: Annotated[float, Field(ge=0)] = 0.5,
        total: _Positive | None = None,
        lr: _Positive | None = 0.02,
    ) -> None:
        super().__init__(maps)
        self.entropy, self.lr = entropy, lr
        self.total = len(self.map_ids) * math.log(2) if total is None else total
        self.theta = nn.Parameter(torch.zeros(len(self.map_ids)))

    def weights(self) -> Tensor:
        """Return S·softplus(θ) / Σ softplus(θ)."""
        return self.total * self._shares()

    def forward(self, losses: Tensor) -> Tensor:
        """Add the losses up and take the entropy's share off.

        Args:
            losses: ℓ (m,).

        Returns:
            The total; it may be negative.
        """
        shares = self._shares().to(losses)
        logs = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()  # dropped maps have share 0: 0·log 0 = 0
        return self.total * ((shares * losses).sum() + self.entropy * (shares * logs).sum())

    def _shares(self) -> Tensor:
        positive = F.softplus(self.theta) * self.kept
        return positive / positive.sum()

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"entropy={self.entropy}, total={self.total:.4g}"


@weighting("uncertainty")
class Uncertainty(Weighting):
    """Each loss weighed by a learned precision, which costs its logarithm.

        L(θ) = Σₖ wₖ·ℓₖ − log wₖ,   w = exp(−θ) (θ = 0 at the start, w = 1) or w = softplus(θ) (w = log 2)
        ∂L/∂wₖ = ℓₖ − 1/wₖ,   so ∂L/∂θₖ = 1 − wₖ·ℓₖ for exp

    The optimum is wₖ = 1/ℓₖ, where every map adds 1 + log ℓₖ: all maps pull at the network with relative, not absolute
    losses. The smaller a map's loss, the larger its weight; whether a map helps is not asked.

    Args:
        maps: The maps to weigh.
        form: ``"exp"`` or ``"softplus"``.
        lr: Learning rate of θ, without weight decay; None: as the network's.

    Source: Kendall, Gal, Cipolla (CVPR 2018), in the form for losses that are not squared errors.
    """

    name = "uncertainty"
    settles = True

    def __init__(
        self, maps: Sequence[Map], form: Literal["exp", "softplus"] = "exp", lr: _Positive | None = 0.02
    ) -> None:
        super().__init__(maps)
        self.form, self.lr = form, lr
        self.theta = nn.Parameter(torch.zeros(len(self.map_ids)))

    def weights(self) -> Tensor:
        """Return exp(−θ) or softplus(θ)."""
        return self._positive() * self.kept

    def forward(self, losses: Tensor) -> Tensor:
        """Add the weighted losses and the cost of the weights up.

        Args:
            losses: ℓ (m,).

        Returns:
            The total; it may be negative.
        """
        positive = self._positive().to(losses)
        return ((positive * losses - positive.log()) * self.kept.to(losses)).sum()

    def _positive(self) -> Tensor:
        return torch.exp(-self.theta) if self.form == "exp" else F.softplus(self.theta)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"form={self.form!r}"
