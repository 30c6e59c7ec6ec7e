"""The operator table: how several logits maps are fused into one mutant.

All maps are logits of one shape ``(B, C, *spatial)``, ordered coarse to fine. A plain operator is a function of the
maps; an operator that learns is an ``nn.Module`` class built once for each subset (or subset size) it is applied to.
Source of add, mul, concat and attention: LoMix (NeurIPS 2025), Combinatorial Mutation Module; sub, avg and max are
known to the authors' code and off by default; bounded_product is ours.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import SpaceError, nearest

_Fuse = Callable[..., Tensor]
_Target = TypeVar("_Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operator:
    """One row of the operator table.

    Args:
        name: The word used in TOML and in map ids.
        fuse: ``(*maps) -> map`` of a plain operator, else None.
        module: Class with ``__init__(classes, arity)`` and ``forward(*maps)`` of an operator that learns, else None.
        symmetric: Whether the order of the maps does not matter.
        per_subset: Whether each subset has its own parameters; otherwise all subsets of one size share them.
    """

    name: str
    fuse: _Fuse | None
    module: type[nn.Module] | None
    symmetric: bool
    per_subset: bool = True

    @property
    def learned(self) -> bool:
        """Whether the operator has parameters."""
        return self.module is not None


OPERATORS: dict[str, Operator] = {}


def operator(name: str, *, symmetric: bool = False, per_subset: bool = True) -> Callable[[_Target], _Target]:
    """Register an operator: a function ``(*maps) -> map``, or an ``nn.Module`` class ``(classes, arity)`` that learns.

    Args:
        name: A new lower-case identifier; it names the operator in TOML files and in map ids like ``name(1,3)``.
        symmetric: Promise that the order of the maps does not matter; ``check_operator`` in
            ``lomix_search.mixture.testing`` holds you to it.
        per_subset: For operators that learn: own parameters for each subset (True) or one set for each size.

    Returns:
        A decorator that leaves its target as it is.

    Raises:
        SpaceError: the name is taken or not an identifier.

    Example:
        >>> @operator("geometric", symmetric=True)
        ... def geometric(*maps):
        ...     return torch.stack(maps).mean(0).tanh()
    """
    if not name.isidentifier() or name == "original":
        raise SpaceError(
            f'operator("{name}"): a name must be an identifier and not "original".',
            hint=f'@operator("my_{re.sub(r"[^0-9a-zA-Z_]", "_", name)}")',
        )
    if name in OPERATORS:
        raise SpaceError(f'operator("{name}") exists already.', hint=f'@operator("my_{name}")')

    def register(target: _Target) -> _Target:
        learns = isinstance(target, type) and issubclass(target, nn.Module)
        fuse, module = (None, target) if learns else (target, None)
        OPERATORS[name] = Operator(name, fuse, module, symmetric, per_subset)  # type: ignore[arg-type]
        return target

    return register


def find_operator(name: str) -> Operator:
    """Look an operator up.

    Args:
        name: A registered name.

    Returns:
        Its row of the table.

    Raises:
        SpaceError: no such operator; names the nearest one.
    """
    if name not in OPERATORS:
        raise SpaceError(f'operator "{name}": unknown. {nearest(name, OPERATORS)}')
    return OPERATORS[name]


@operator("add", symmetric=True)
def add(*maps: Tensor) -> Tensor:
    """Return Σ Pᵢ."""
    return reduce(torch.add, maps)


@operator("mul", symmetric=True)
def mul(*maps: Tensor) -> Tensor:
    """Return Π Pᵢ, element-wise on logits.

    Products of half-precision logits overflow beyond 65504 (40³ is close), so they are taken in float32.
    """
    wide = [m.float() if m.dtype in (torch.float16, torch.bfloat16) else m for m in maps]
    return reduce(torch.mul, wide)


@operator("bounded_product", symmetric=True)
def bounded_product(*maps: Tensor) -> Tensor:
    """Return 2·artanh Π tanh(Pᵢ/2): the product that cannot explode, for networks whose products of logits do.

        two maps:  log(1 + exp(a + b)) − log(exp(a) + exp(b));  more: one after another, in any order

    It has the sign of Π Pᵢ, is about Π Pᵢ / 2^(n−1) where logits are small, and never larger than the smallest |Pᵢ|.
    Its slope along each map lies in [−1, 1], where that of ``mul`` is the product of all the others.

    Source: the logit of a parity, ⊞ in Hagenauer, Offer and Papke, Iterative Decoding of Binary Block and Convolutional
    Codes, IEEE Trans. Inf. Theory 42 (1996).
    """
    return reduce(lambda a, b: torch.logaddexp(torch.zeros_like(a), a + b) - torch.logaddexp(a, b), maps)


@operator("sub")
def sub(*maps: Tensor) -> Tensor:
    """Return P_first − Σ others, where the first is the coarsest of the subset."""
    return maps[0] - reduce(torch.add, maps[1:])


@operator("avg", symmetric=True)
def avg(*maps: Tensor) -> Tensor:
    """Return the mean of the maps."""
    return reduce(torch.add, maps) / len(maps)


@operator("max", symmetric=True)
def maximum(*maps: Tensor) -> Tensor:
    """Return the element-wise maximum of the maps."""
    return reduce(torch.maximum, maps)


@operator("concat")
class Concat(nn.Module):
    """A 1×1 convolution with bias of the channel concatenation, |S|·C → C.

    Differs from the authors' code, where this convolution is created anew at every forward pass, with random weights,
    and never trained. Here it is registered and trained, as the paper means it.

    Args:
        classes: C, channels of each map.
        arity: |S|, number of maps.
    """

    def __init__(self, classes: int, arity: int) -> None:
        super().__init__()
        like = nn.Conv1d(arity * classes, classes, 1)  # for the field's usual initialisation
        self.weight = nn.Parameter(like.weight.detach().squeeze(-1).clone())
        self.bias = nn.Parameter(like.bias.detach().clone())  # type: ignore[union-attr]

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse ``arity`` maps of shape (B, C, *spatial) into one."""
        return _pointwise(torch.cat(maps, dim=1), self.weight, self.bias)


@operator("attention", per_subset=False)
class Attention(nn.Module):
    """Σ aᵢ ⊙ Pᵢ with a = softmax over i ∈ S of convᵢ(Pᵢ), each convᵢ 1×1 with bias, C → 1.

    The authors share the convolutions between all subsets of one size: convolution j sees the j-th scale of the subset.
    So do we by default. ``per_subset = true`` in a space file gives each subset its own.

    Args:
        classes: C, channels of each map.
        arity: |S|, number of maps.
    """

    def __init__(self, classes: int, arity: int) -> None:
        super().__init__()
        like = nn.Conv1d(classes, arity, 1)  # row j initialises exactly as a convolution C → 1 does
        self.weight = nn.Parameter(like.weight.detach().squeeze(-1).clone())
        self.bias = nn.Parameter(like.bias.detach().clone())  # type: ignore[union-attr]

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse ``arity`` maps of shape (B, C, *spatial) into one."""
        scores = [_pointwise(m, w[None], b[None]) for m, w, b in zip(maps, self.weight, self.bias, strict=True)]
        gates = torch.softmax(torch.stack(scores), dim=0)
        return add(*(gate * m for gate, m in zip(gates, maps, strict=True)))


def _pointwise(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a 1×1 convolution of any spatial rank: (B, I, *spatial) with (O, I) weights → (B, O, *spatial)."""
    flat = F.conv1d(maps.flatten(2), weight[:, :, None], bias)
    return flat.reshape(*flat.shape[:2], *maps.shape[2:])
