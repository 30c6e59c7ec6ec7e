"""What the fused engines compute, in a form to walk: tries of sums and products, rules, packed parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lomix_search.mixture import operators as table
from lomix_search.mixture.loss.plan import Plan
from lomix_search.mixture.operators import OPERATORS
from lomix_search.mixture.space import Map

TRIES = {"original": 0, "add": 0, "mul": 1}
RULES = {"sub": 0, "avg": 1, "max": 2, "concat": 3, "attention": 4}
_SHIPPED: dict[str, object] = {
    "add": table.add,
    "mul": table.mul,
    "sub": table.sub,
    "avg": table.avg,
    "max": table.maximum,
    "concat": table.Concat,
    "attention": table.Attention,
}


class Node(NamedTuple):
    """A sum or product of scales, which extends its parent's by one.

    Args:
        kind: 0 for sums, 1 for products.
        scale: The last scale, 0 the coarsest.
        depth: How many scales.
        map: Index of the map that it is, −1 if none.
    """

    kind: int
    scale: int
    depth: int
    map: int


class Rule(NamedTuple):
    """Any other operator applied to a subset.

    Args:
        kind: A value of ``RULES``.
        map: Index of the map.
        scales: The subset, 0 the coarsest.
        params: Where its parameters begin among all; 0 if it has none.
    """

    kind: int
    map: int
    scales: tuple[int, ...]
    params: int


@dataclass(frozen=True)
class Layout:
    """A plan, ready to be walked.

    Args:
        plan: The plan.
        nodes: The two tries in preorder: children stand behind their parent, one deeper.
        rules: All other maps.
        offsets: Where the packed parameters of each learned module begin, in that order; weight before bias.
        num_params: How many packed parameters there are.
    """

    plan: Plan
    nodes: tuple[Node, ...]
    rules: tuple[Rule, ...]
    offsets: Mapping[str, int]
    num_params: int

    @property
    def code(self) -> list[int]:
        """The layout as the numbers that the C++ kernel reads."""
        plan = self.plan
        head = [plan.num_maps, plan.num_classes, len(plan.maps), len(self.nodes), len(self.rules)]
        rules = [number for r in self.rules for number in (r.kind, r.map, len(r.scales), r.params, *r.scales)]
        return [*head, *(number for node in self.nodes for number in node), *rules]


def supported(m: Map) -> bool:
    """Tell whether the fused engines know a map's operator, and it is still the one that we ship."""
    if m.operator == "original":
        return True
    row = OPERATORS.get(m.operator)
    ours = _SHIPPED.get(m.operator)
    return row is not None and ours is not None and ours in (row.fuse, row.module)


def pack(plan: Plan, modules: Mapping[str, nn.Module], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Join the parameters of all learned operators into one vector; autograd flows through."""
    keys = dict.fromkeys(m.parameters for m in plan.maps if m.parameters is not None)
    parts = [part for key in keys for part in (modules[key].weight, modules[key].bias)]
    flat = [part.reshape(-1).to(device, dtype) for part in parts if isinstance(part, Tensor)]
    return torch.cat(flat) if flat else torch.zeros(0, dtype=dtype, device=device)


def pack_tangents(
    plan: Plan,
    modules: Mapping[str, nn.Module],
    tangents: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Join tangents of parameters in the order of ``pack``; 0 for those that are not given."""
    names = [
        (key, part)
        for key in dict.fromkeys(m.parameters for m in plan.maps if m.parameters is not None)
        for part in ("weight", "bias")
    ]
    flat = [tangents.get(f"{key}.{part}", torch.zeros_like(getattr(modules[key], part))) for key, part in names]
    return torch.cat([torch.zeros(0, dtype=dtype, device=device), *(one.reshape(-1).to(device, dtype) for one in flat)])


@lru_cache(maxsize=256)
def lay_out(plan: Plan) -> Layout:
    """Arrange the maps of a plan, all of which must be ``supported``.

    Args:
        plan: The plan.

    Returns:
        Its layout.
    """
    indices = {m: i for i, m in enumerate(plan.maps)}
    assert len(indices) == len(plan.maps), "a map stands twice"
    offsets, num_params = _offsets(plan)
    rules = [
        Rule(RULES[m.operator], i, _from_zero(m), offsets.get(m.parameters or "", 0))
        for m, i in indices.items()
        if m.operator in RULES
    ]
    sums = {_from_zero(m): i for m, i in indices.items() if TRIES.get(m.operator) == 0}
    products = {_from_zero(m): i for m, i in indices.items() if TRIES.get(m.operator) == 1}
    nodes = [*_trie(0, sums), *_trie(1, products)]
    return Layout(plan, tuple(nodes), tuple(rules), offsets, num_params)


def write_plan(plan: Plan) -> str:
    """Write a plan as one line of text, which an opaque operator can take as an argument."""
    maps = [f"{m.operator}:{','.join(map(str, m.scales))}:{m.parameters or ''}" for m in plan.maps]
    ignored = "" if plan.ignore_index is None else str(plan.ignore_index)
    return "|".join([f"{plan.num_maps};{plan.num_classes};{ignored};{'together' * plan.together}", *maps])


@lru_cache(maxsize=256)
def read_plan(text: str) -> Plan:
    """Read what ``write_plan`` wrote."""
    head, *rows = text.split("|")
    num_maps, num_classes, ignored, together = head.split(";")
    parts = [row.split(":") for row in rows]
    maps = tuple(Map(name, tuple(map(int, scales.split(","))), key or None) for name, scales, key in parts)
    return Plan(maps, int(num_maps), int(num_classes), int(ignored) if ignored else None, bool(together))


def _offsets(plan: Plan) -> tuple[dict[str, int], int]:
    """Return where the parameters of each learned module begin, and how many there are."""
    offsets, end = {}, 0
    for m in plan.maps:
        if m.parameters is not None and m.parameters not in offsets:
            offsets[m.parameters] = end
            arity, classes = len(m.scales), plan.num_classes
            end += classes * (arity * classes + 1) if m.operator == "concat" else arity * (classes + 1)
    return offsets, end


def _trie(kind: int, maps: Mapping[tuple[int, ...], int]) -> Iterable[Node]:
    """Return in preorder all subsets that are maps, and those on the way to them."""
    wanted = {scales[:depth] for scales in maps for depth in range(1, len(scales) + 1)}
    return [Node(kind, scales[-1], len(scales), maps.get(scales, -1)) for scales in sorted(wanted)]


def _from_zero(m: Map) -> tuple[int, ...]:
    return tuple(scale - 1 for scale in m.scales)


def group(maps: Sequence[Map]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of maps that the fused engines know, and of the others."""
    known = tuple(i for i, m in enumerate(maps) if supported(m))
    return known, tuple(i for i in range(len(maps)) if i not in known)
