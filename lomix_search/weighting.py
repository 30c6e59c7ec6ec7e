"""How raw parameters become the weights of the per-map losses, and the weighted losses one total.

A weighting is built for the maps of a loss, in their order. ``WEIGHTINGS`` names those that need nothing but the maps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import LossError, nearest
from lomix_search.space import Map

Built = TypeVar("Built", bound=Callable[..., "Weighting"])


class Weighting(nn.Module, ABC):
    """Interface of all weightings: m per-map losses in, one total out.

    A new one implements ``weights``; it overrides ``forward`` only if its total is more than Σ wₖ·ℓₖ, and ``active``
    only if some of its maps need not be computed at all.

    Args:
        maps: The maps to weigh, in the order of the losses.
    """

    name: str = "custom"
    """The word for it in mixture files."""

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__()
        self.map_ids = tuple(m.id for m in maps)

    @abstractmethod
    def weights(self) -> Tensor:
        """Return the weights w (m,), ≥ 0, with their gradient where they are learned."""

    def forward(self, losses: Tensor) -> Tensor:
        """Add the losses up.

        Args:
            losses: ℓ (m,), one mean loss a map; 0 for maps that are not active.

        Returns:
            The total, a scalar.
        """
        return (self.weights().to(losses) * losses).sum()

    def active(self) -> tuple[bool, ...]:
        """Say which maps count; the others are skipped and cost nothing. Must not read a tensor on a device."""
        return (True,) * len(self.map_ids)


WEIGHTINGS: dict[str, Callable[..., Weighting]] = {}


def weighting(name: str) -> Callable[[Built], Built]:
    """Register a weighting, called with the maps alone when asked for by name.

    Args:
        name: A new name.

    Returns:
        A decorator that leaves its target as it is.

    Raises:
        LossError: the name is taken.
    """
    if name in WEIGHTINGS:
        raise LossError(f'weighting("{name}") exists already.', hint=f'@weighting("my_{name}")')

    def register(target: Built) -> Built:
        WEIGHTINGS[name] = target
        return target

    return register


def build_weighting(kind: str | Weighting, maps: Sequence[Map]) -> Weighting:
    """Build a weighting by name, or check that a built one is meant for these maps.

    Args:
        kind: A registered name or a weighting.
        maps: The maps to weigh.

    Returns:
        The weighting.

    Raises:
        LossError: unknown name, or a weighting built for other maps.
    """
    if isinstance(kind, str):
        if kind not in WEIGHTINGS:
            raise LossError(f'weighting "{kind}": unknown. {nearest(kind, WEIGHTINGS)}')
        return WEIGHTINGS[kind](maps)
    ids = tuple(m.id for m in maps)
    if kind.map_ids != ids:
        raise LossError(
            f"{type(kind).__name__} was built for {len(kind.map_ids)} other maps; this loss has {len(ids)}.",
            seen=[f"weighting: {_few(kind.map_ids)}", f"loss:      {_few(ids)}"],
            hint=f"{type(kind).__name__}(tuple(space.maps(num_maps)), …)",
        )
    return kind


@weighting("softplus")
class Softplus(Weighting):
    """The paper's: wₖ = softplus(θₖ), θ = 0 at the start, so that w = log 2 ≈ 0.693.

        L(θ) = Σₖ softplus(θₖ)·ℓₖ,   ∂L/∂θₖ = σ(θₖ)·ℓₖ ≥ 0

    Every gradient is ≥ 0, so a weight can only fall, and under Adam all fall at nearly one speed: the order of the
    weights says something, their size mostly how long training ran.

    Source: LoMix (NeurIPS 2025), the one-step search.
    """

    name = "softplus"

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__(maps)
        self.theta = nn.Parameter(torch.zeros(len(self.map_ids)))

    def weights(self) -> Tensor:
        """Return softplus(θ)."""
        return F.softplus(self.theta)


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
        _check_weights(values, self.map_ids)
        self.register_buffer("given", torch.tensor(values))
        self._active = tuple(w != 0 for w in values)

    def weights(self) -> Tensor:
        """Return the given weights."""
        return self.given

    def active(self) -> tuple[bool, ...]:
        """Say which weights are not 0."""
        return self._active

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        """Keep ``active`` true to the weights when others are loaded."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._active = tuple(bool(w != 0) for w in self.given.tolist())


@weighting("uniform")
def uniform(maps: Sequence[Map]) -> Weighting:
    """Weight 1 for every map: plain deep supervision, MUTATION, or the paper's "equal weights"."""
    return Fixed(maps, [1.0] * len(maps), "uniform")


@weighting("random")
def random(maps: Sequence[Map], seed: int = 0) -> Weighting:
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
    raise LossError(
        f'weighting "fixed" needs the {len(maps)} weights.',
        hint=["from lomix_search.weighting import Fixed", "MixtureLoss(…, weighting=Fixed(maps, weights))"],
    )


def _check_weights(values: list[float], ids: tuple[str, ...]) -> None:
    if len(values) != len(ids):
        raise LossError(f"Fixed has {len(values)} weights; these are {len(ids)} maps.", seen=_few(ids))
    wrong = [f"{name}: {w}" for name, w in zip(ids, values, strict=True) if not 0 <= w < float("inf")]
    if wrong:
        raise LossError(f"Fixed has {len(wrong)} weights that are negative or not finite.", seen=wrong)
    if not any(values):
        raise LossError("Fixed has only weights of 0; nothing would be trained.")


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids) if len(ids) <= 6 else f"{', '.join(ids[:5])}, … ({len(ids)})"
