"""The data flow that leads to one output, reduced to feature maps: sizes, rises, merges, and the trunk through them."""

import dataclasses
import re
from functools import cached_property

import networkx as nx
from torch import fx

from lomix_search.trace import Trace

Size = tuple[int, ...]

RISE = 1.4
"""A map this many times larger along some axis is on the next level; less is padding, cropping or rounding."""

_WEIGHTED = re.compile(r"conv|(?<!bi)(?<!tri)linear|addmm|baddbmm|matmul|\bmm\b|bmm|einsum|attention", re.IGNORECASE)
_SPATIAL = re.compile(
    r"conv|pool|interpolate|upsample|norm[123]d|batch_norm|instance_norm|pixel_shuffle", re.IGNORECASE
)
_PAD = re.compile(r"pad|slice|crop|narrow|index|getitem|_item|copy_|setitem|after|empty|zeros", re.IGNORECASE)
_RESHAPE = re.compile(
    r"view|reshape|permute|transpose|flatten|clone|contiguous|rearrange|to|split|chunk|_item", re.IGNORECASE
)
_MIX = re.compile(r"matmul|bmm|mm|einsum|.*softmax|expand|expand_as|baddbmm|addmm|.*attention.*", re.IGNORECASE)
_GATE = re.compile(r"sigmoid|softmax", re.IGNORECASE)
_MULTIPLY = re.compile(r"i?mul_?|multiply_?", re.IGNORECASE)
_JOIN = re.compile(r"cat|stack", re.IGNORECASE)


def grows(a: Size, b: Size) -> bool:
    """Whether a map of size ``b`` is on a finer level than one of size ``a``; compared from the last axis."""
    ratios = [y / x for x, y in zip(a[::-1], b[::-1], strict=False)]
    return max(ratios) >= RISE and min(ratios) > 1 / RISE


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """The data flow that leads to one output.

    Args:
        trace: One forward pass.
        output: The logits.
    """

    trace: Trace
    output: fx.Node

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The output and all it depends on, without what does not depend on the inputs (parameters, constants)."""
        whole = self.trace.network()
        fed = set(self.trace.inputs).union(*(nx.descendants(whole, given) for given in self.trace.inputs))
        return whole.subgraph(fed & nx.ancestors(whole, self.output) | {self.output}).copy()

    @cached_property
    def maps(self) -> nx.DiGraph:
        """The feature maps alone; an edge where one leads to another through values that are no maps."""
        found = nx.DiGraph()
        behind: dict[fx.Node, tuple[fx.Node, ...]] = {}
        for node in sorted(self.graph, key=self.order):
            given = list(self.graph.pred[node])
            if _MULTIPLY.fullmatch(operation(node)):  # what is multiplied by a gate leads on, the gate does not
                given = [p for p in given if p not in self.gates] or given
            sources = tuple(dict.fromkeys(s for p in given for s in behind[p]))
            if self._is_map(node):
                found.add_node(node)
                found.add_edges_from((source, node) for source in sources)
                sources = (node,)
            behind[node] = sources
        return found

    @cached_property
    def gates(self) -> set[fx.Node]:
        """Attention values: what a sigmoid or softmax makes, until a layer with weights works on it."""
        found: set[fx.Node] = set()
        for node in sorted(self.graph, key=self.order):
            passed = any(p in found for p in self.graph.pred[node]) and not weighted(node) and not joins(node)
            product = bool(_MULTIPLY.fullmatch(operation(node))) and any(p not in found for p in self.graph.pred[node])
            if _GATE.search(operation(node)) or (passed and not product):
                found.add(node)
        return found

    def order(self, node: fx.Node) -> int:
        """Return when a node ran."""
        return self.graph.nodes[node]["order"]  # type: ignore[no-any-return]

    def size(self, node: fx.Node) -> Size:
        """Return the spatial size of a feature map."""
        return tuple(node.meta["shape"][2:])

    @cached_property
    def rises(self) -> set[fx.Node]:
        """Maps on a finer level than every map they are made from; padding does not count."""
        return {
            node
            for node, sources in self.maps.pred.items()
            if sources
            and not _PAD.search(operation(node))
            and all(grows(self.size(s), self.size(node)) for s in sources)
        }

    @cached_property
    def risen(self) -> set[fx.Node]:
        """All maps that depend on a rise: decoder, and what looks like one."""
        return self.rises.union(*(nx.descendants(self.maps, rise) for rise in self.rises))

    @cached_property
    def merges(self) -> set[fx.Node]:
        """Maps of the decoder in which two ways meet that parted before this level: skips, but no residual blocks."""
        root = object()
        graph = self.maps.copy()
        graph.add_edges_from((root, node) for node in self.maps if not self.maps.pred[node])
        parted = nx.immediate_dominators(graph, root)
        found = set()
        for node in self.maps:
            peers = [s for s in self.maps.pred[node] if not grows(self.size(s), self.size(node))]
            split = parted[node]
            near = split is not root and split in self.risen and not grows(self.size(split), self.size(node))
            if len(peers) > 1 and not near and node in self.risen:
                found.add(node)
        return found

    @cached_property
    def trunk(self) -> list[fx.Node]:
        """The way to the output with the most rises and merges, from its last coarsest map on, in order."""
        best: dict[fx.Node, tuple[int, fx.Node | None]] = {}
        for node in sorted(self.maps, key=self.order):
            ways = [(best[s][0], self.size(s) == self.size(node), self.order(s), s) for s in self.maps.pred[node]]
            before, *_, source = max(ways, default=(0, True, 0, None), key=lambda way: way[:3])
            best[node] = (before + 10 * (node in self.rises) + self._worth(node), source)
        path = [self.output]
        while (source := best[path[-1]][1]) is not None and not grows(self.size(path[-1]), self.size(source)):
            path.append(source)
        return path[::-1]

    def takes_skip(self, node: fx.Node) -> bool:
        """Whether a map that does not come out of the decoder is merged in."""
        return node in self.merges and any(source not in self.risen for source in self.maps.pred[node])

    def _worth(self, node: fx.Node) -> int:
        """A skip is worth a rise; a merge of two decoder maps (side outputs, nested skips) less."""
        return 10 if self.takes_skip(node) else 3 * (node in self.merges)

    def works_between(self, start: fx.Node, end: fx.Node) -> bool:
        """Whether a layer with weights stands on a way from ``start`` (itself left out) to ``end``."""
        between = nx.descendants(self.graph, start) & ({end} | nx.ancestors(self.graph, end))
        return any(weighted(node) for node in between)

    def _is_map(self, node: fx.Node) -> bool:
        shape = node.meta.get("shape", ())
        if node in self._tail:
            return True
        fits = len(shape) in self._ranks and shape[1] > 1 and tuple(shape[2:]) in self._sizes
        if not fits or _MIX.fullmatch(operation(node)):
            return False
        return not _RESHAPE.search(operation(node)) or self._meets_space(node)

    def _meets_space(self, node: fx.Node) -> bool:
        """Whether a reshaped value is used as a map: reaches a layer that knows about space before it is mixed."""
        front = [node]
        for _ in range(6):
            front = [user for value in front for user in self.graph.succ[value] if not _MIX.fullmatch(operation(user))]
            if any(_SPATIAL.search(operation(user)) or user is self.output for user in front):
                return True
            front = [user for user in front if user.meta.get("shape") and not weighted(user)]
        return False

    @cached_property
    def _tail(self) -> set[fx.Node]:
        """The output and the values of its shape that alone lead to it; elsewhere, one channel is a gate."""
        found, channels = [self.output], self.output.meta["shape"][1]
        while len(sources := list(self.graph.pred[found[-1]])) == 1:
            shape = sources[0].meta.get("shape", ())
            if len(shape) != len(self.output.meta["shape"]) or shape[1] != channels:
                break
            found.append(sources[0])
        return set(found)

    @cached_property
    def _ranks(self) -> set[int]:
        """Ranks of feature maps: the output's, and that of the layers with which the network mostly works."""
        ranks = [
            len(node.meta["shape"]) for node in self.graph if node.meta.get("shape") and _CONV.search(operation(node))
        ]
        return {len(self.output.meta["shape"]), *(r for r in set(ranks) if 4 * ranks.count(r) > len(ranks) and r > 2)}

    @cached_property
    def _sizes(self) -> set[Size]:
        """Sizes that layers which know about space work on; attention weights and tokens have others."""
        real = [node for node in self.graph if _SPATIAL.search(operation(node)) or node.op == "placeholder"]
        near = {n for node in real for n in (node, *self.graph.pred[node])}
        return {self.size(n) for n in near if len(n.meta.get("shape", ())) in self._ranks}


_CONV = re.compile("conv", re.IGNORECASE)


def operation(node: fx.Node) -> str:
    """Return the name of what a node does: a layer's class, a function, a method or an ATen operation."""
    if "layer" in node.meta:
        return str(node.meta["layer"])
    target = node.target
    return target if isinstance(target, str) else str(getattr(target, "_opname", getattr(target, "__name__", target)))


def weighted(node: fx.Node) -> bool:
    """Whether a node is a layer that learns, or mixes channels as one."""
    return node.op.startswith("call") and bool(_WEIGHTED.search(operation(node)))


def joins(node: fx.Node) -> bool:
    """Whether a node lays maps beside each other."""
    return bool(_JOIN.search(operation(node)))
