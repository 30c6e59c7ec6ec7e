"""The weights of maps as numbers: how selective they are, which maps are the strongest, whether two orders agree."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lomix_search.errors import MixtureError
from lomix_search.utils.schema import Frozen


class MapWeight(Frozen):
    """One map and its found weight.

    Args:
        id: The map, e.g. ``P4`` or ``add(1,3)``.
        weight: Its loss weight, ≥ 0.
    """

    id: str
    weight: Annotated[float, Field(ge=0, le=1e30)]  # finite in float32, and their sum too


class Concentration(Frozen):
    """How selective a set of weights is.

    Args:
        total: Sum of the weights.
        entropy: Shannon entropy of the normalised weights, in nats.
        effective_maps: exp(entropy): as many equally weighted maps would be as spread out. The number of maps when all
            are equal, 1 when one has all the weight.
    """

    total: float
    entropy: float
    effective_maps: float


def concentration(weights: Sequence[float]) -> Concentration:
    """Measure how selective weights are.

    Args:
        weights: Loss weights, ≥ 0.

    Returns:
        Sum, entropy of the normalised weights (0 · log 0 = 0) and its exponential. All zero for a zero sum.
    """
    total = math.fsum(weights)
    if total <= 0:
        return Concentration(total=total, entropy=0.0, effective_maps=0.0)
    parts = [w / total for w in weights if w > 0]
    entropy = max(0.0, -math.fsum(p * math.log(p) for p in parts))
    return Concentration(total=total, entropy=entropy, effective_maps=math.exp(entropy))


def strongest(
    ranked: Sequence[MapWeight],
    operators: Mapping[str, str],
    *,
    top: int | None = None,
    mass: float | None = None,
    per_operator: int | None = None,
) -> Iterator[str]:
    """Choose the strongest maps by exactly one of three criteria.

    Args:
        ranked: The maps by falling weight.
        operators: The operator of each map, by id.
        top: Number of maps.
        mass: Part of the weight, in (0, 1]: the fewest maps that hold it.
        per_operator: Number of maps of each operator.

    Yields:
        Ids, the strongest first.

    Raises:
        MixtureError: not exactly one criterion, or one out of range.
    """
    _check_criteria(top, mass, per_operator)
    taken, of_operator = 0.0, dict.fromkeys(operators.values(), 0)
    limit = mass * math.fsum(m.weight for m in ranked) * (1 - 1e-12) if mass is not None else math.inf
    for rank, m in enumerate(ranked):
        kind = operators[m.id]
        if rank >= (top or math.inf) or taken >= limit:
            return
        if of_operator[kind] < (per_operator or math.inf):
            yield m.id
        taken, of_operator[kind] = taken + m.weight, of_operator[kind] + 1


def _check_criteria(top: int | None, mass: float | None, per_operator: int | None) -> None:
    if sum(criterion is not None for criterion in (top, mass, per_operator)) != 1:
        raise MixtureError("prune needs exactly one of top, mass and per_operator.", hint="mixture.prune(top=8)")
    for name, number in (("top", top), ("per_operator", per_operator)):
        if number is not None and number < 1:
            raise MixtureError(f"prune({name}={number}): at least one map must stay.", hint=f"prune({name}=1)")
    if mass is not None and not 0 < mass <= 1:
        raise MixtureError(f"prune(mass={mass}): a part of the weight lies in (0, 1].", hint="prune(mass=0.9)")


def kendall(a: Tensor, b: Tensor) -> float:
    """Return Kendall's τ-b of two series (n,) of values; NaN if one of them has no order at all."""
    rows, columns = torch.triu_indices(len(a), len(a), offset=1)
    up, across = torch.sign(a[rows] - a[columns]), torch.sign(b[rows] - b[columns])
    pairs = up.abs().sum() * across.abs().sum()
    return ((up * across).sum() / pairs.sqrt()).item() if pairs > 0 else math.nan
