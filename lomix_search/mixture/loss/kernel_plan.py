"""A loss plan in the order in which the fused back ends walk it: tries of sums and products, then all other fusions."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lomix_search.mixture import operators as table
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.maps import Map
from lomix_search.mixture.operators import OPERATORS

_SUM, _PRODUCT = 0, 1
TRIES = {"original": _SUM, "add": _SUM, "mul": _PRODUCT}
FUSIONS = {"sub": 0, "avg": 1, "max": 2, "concat": 3, "attention": 4}
_SHIPPED: dict[str, object] = {
    "add": table.add,
    "mul": table.mul,
    "sub": table.sub,
    "avg": table.avg,
    "max": table.maximum,
    "concat": table.Concat,
    "attention": table.Attention,
}
_NONE = -1
"""What the C++ kernel reads where a node of a trie is not a map."""


class TrieNode(NamedTuple):
    """The sum or product of a subset of scales. It extends its parent's by one scale.

    Args:
        kind: 0 for sums, 1 for products.
        scale: The last scale of the subset, 0 the coarsest.
        depth: Size of the subset.
        map: Index of the map that it is; None if it only leads to larger subsets.
    """

    kind: int
    scale: int
    depth: int
    map: int | None


class Fusion(NamedTuple):
    """Any other operator, applied to a subset of scales.

    Args:
        kind: A value of ``FUSIONS``.
        map: Index of the map.
        scales: The subset, 0 the coarsest.
        params: Where its parameters begin among all; None if it has none.
    """

    kind: int
    map: int
    scales: tuple[int, ...]
    params: int | None


@dataclass(frozen=True)
class KernelPlan:
    """A loss plan, ready to be walked.

    Args:
        plan: The loss plan.
        nodes: The two tries in preorder: children stand behind their parent, one deeper.
        fusions: All other maps.
        offsets: Where the packed parameters of each learned module begin, in that order; weight before bias.
        num_params: Number of packed parameters.
    """

    plan: LossPlan
    nodes: tuple[TrieNode, ...]
    fusions: tuple[Fusion, ...]
    offsets: Mapping[str, int]
    num_params: int

    @property
    def code(self) -> list[int]:
        """The plan as the numbers that the C++ kernel reads; of fractions their bits."""
        plan = self.plan
        flags = plan.sigmoid, plan.terms.of_squares, plan.terms.per_image
        head = [plan.num_maps, plan.num_classes, *flags, len(plan.maps), len(self.nodes), len(self.fusions)]
        head += struct.unpack("2q", struct.pack("2d", plan.terms.label_smoothing, plan.terms.focal_gamma))
        nodes = [(n.kind, n.scale, n.depth, _NONE if n.map is None else n.map) for n in self.nodes]
        fusions = [(f.kind, f.map, len(f.scales), f.params or 0, *f.scales) for f in self.fusions]
        return [*head, *(number for row in (*nodes, *fusions) for number in row)]


@lru_cache(maxsize=256)
def kernel_plan(plan: LossPlan) -> KernelPlan:
    """Arrange the maps of a loss plan.

    Args:
        plan: The plan; all of its maps are ``supported``, and none stands twice.

    Returns:
        What the kernels walk.
    """
    indices = {m: i for i, m in enumerate(plan.maps)}
    assert len(indices) == len(plan.maps), "a map stands twice"
    offsets, num_params = _offsets(plan)
    fusions = [
        Fusion(FUSIONS[m.operator], i, _from_zero(m), None if m.parameters is None else offsets[m.parameters])
        for m, i in indices.items()
        if m.operator in FUSIONS
    ]
    subsets = {
        kind: {_from_zero(m): i for m, i in indices.items() if TRIES.get(m.operator) == kind}
        for kind in (_SUM, _PRODUCT)
    }
    nodes = [*_trie(_SUM, subsets[_SUM]), *_trie(_PRODUCT, subsets[_PRODUCT])]
    return KernelPlan(plan, tuple(nodes), tuple(fusions), offsets, num_params)


def supported(m: Map) -> bool:
    """Tell whether the fused engines know a map's operator, and it is still the one that we ship."""
    if m.operator == "original":
        return True
    row = OPERATORS.get(m.operator)
    ours = _SHIPPED.get(m.operator)
    return row is not None and ours is not None and ours in (row.fuse, row.module)


def split_supported(maps: Sequence[Map]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of maps that the fused engines know, and of the others."""
    known = tuple(i for i, m in enumerate(maps) if supported(m))
    return known, tuple(i for i in range(len(maps)) if i not in known)


def pack_parameters(
    plan: LossPlan, modules: Mapping[str, nn.Module], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Join the parameters of all learned operators into one vector. Autograd flows through."""
    keys = dict.fromkeys(m.parameters for m in plan.maps if m.parameters is not None)
    parts = [part for key in keys for part in (modules[key].weight, modules[key].bias)]
    flat = [part.reshape(-1).to(device, dtype) for part in parts if isinstance(part, Tensor)]
    return torch.cat(flat) if flat else torch.zeros(0, dtype=dtype, device=device)


def _offsets(plan: LossPlan) -> tuple[dict[str, int], int]:
    """Return where the parameters of each learned module begin, and their number."""
    offsets, end = {}, 0
    for m in plan.maps:
        if m.parameters is not None and m.parameters not in offsets:
            offsets[m.parameters] = end
            arity, classes = len(m.scales), plan.num_classes
            end += classes * (arity * classes + 1) if m.operator == "concat" else arity * (classes + 1)
    return offsets, end


def _trie(kind: int, maps: Mapping[tuple[int, ...], int]) -> Iterable[TrieNode]:
    """Return in preorder all subsets that are maps, and those on the way to them."""
    wanted = {scales[:depth] for scales in maps for depth in range(1, len(scales) + 1)}
    return [TrieNode(kind, scales[-1], len(scales), maps.get(scales)) for scales in sorted(wanted)]


def _from_zero(m: Map) -> tuple[int, ...]:
    return tuple(scale - 1 for scale in m.scales)
