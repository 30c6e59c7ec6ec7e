"""Graph → decoder stages: what happens between the coarsest value and the output."""

import dataclasses
import math
from functools import cached_property

import networkx as nx
from torch import fx

from lomix_search.trace import Trace


@dataclasses.dataclass(frozen=True)
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

    def size(self, node: fx.Node) -> tuple[int, ...] | None:
        """Return the spatial size of a feature map; None for other values."""
        shape = node.meta.get("shape", ())
        return shape[2:] if len(shape) == len(self.output.meta["shape"]) and len(shape) > 2 else None

    def order(self, node: fx.Node) -> int:
        """Return when a node ran."""
        return self.graph.nodes[node]["order"]  # type: ignore[no-any-return]

    @cached_property
    def rises(self) -> list[fx.Node]:
        """Nodes that make a map larger than every map they are given."""
        found = []
        for node in self.graph:
            size, given = self.size(node), [s for s in map(self.size, self.graph.pred[node]) if s]
            if size and given and all(math.prod(s) < math.prod(size) for s in given):
                found.append(node)
        return found

    @cached_property
    def bottleneck(self) -> fx.Node | None:
        """The coarsest map from which the decoder rises."""
        sources = [s for rise in self.rises for s in self.graph.pred[rise] if self.size(s)]
        return min(sources, key=lambda s: (math.prod(self.size(s) or ()), self.order(s)), default=None)

    @cached_property
    def chain(self) -> list[fx.Node]:
        """The values that every path from the bottleneck to the output goes through, in order."""
        if self.bottleneck is None:
            return []
        dominator = nx.immediate_dominators(self.graph, self.bottleneck)
        found = [self.output]
        while found[-1] is not self.bottleneck:
            found.append(dominator[found[-1]])
        return found[::-1]

    def joins(self, node: fx.Node) -> bool:
        """Whether a value from before the bottleneck (a skip) comes in at a node."""
        return any(self.size(source) and source not in self._below for source in self.graph.pred[node])

    @cached_property
    def _below(self) -> set[fx.Node | None]:
        return {self.bottleneck, *nx.descendants(self.graph, self.bottleneck)}


def decoder_stages(trace: Trace, output: fx.Node) -> list[fx.Node]:
    """Return the values at which the decoder finishes each resolution, coarse to fine; the last may be the output.

    Args:
        trace: One forward pass.
        output: The model's main logits.

    Returns:
        Nodes of the trace's graph; none if nothing rises from a bottleneck.
    """
    flow = Flow(trace, output)
    chain = [node for node in flow.chain if flow.size(node)]
    if not chain:
        return []
    head = _head_start(flow, chain)
    levels: dict[tuple[int, ...], list[fx.Node]] = {}
    for node in chain[: chain.index(head)]:
        levels.setdefault(flow.size(node) or (), []).append(node)
    by_size = list(levels.values())
    if flow.size(head) not in levels:  # the last block makes the logits itself
        by_size.append([head])
    found = [_end_of_level(flow, values, _next(chain, values[-1])) for values in by_size[1:-1]]
    return [*found, _finest(flow, chain, by_size[-1], head)] if len(by_size) > 1 else []


def _next(chain: list[fx.Node], node: fx.Node) -> fx.Node:
    return chain[chain.index(node) + 1]


def _head_start(flow: Flow, chain: list[fx.Node]) -> fx.Node:
    """Return the first value of the tail in which the number of channels is that of the logits."""
    classes, start = chain[-1].meta["shape"][1], len(chain) - 1
    while start > 0 and chain[start - 1].meta["shape"][1] == classes:
        start -= 1
    return chain[start]


def _end_of_level(flow: Flow, values: list[fx.Node], rise: fx.Node) -> fx.Node:
    """Return the input of the outermost module that rises to the next level and begins after the last skip came in."""
    merge = max((i for i, node in enumerate(values) if flow.joins(node)), default=0)
    found = _first_input(flow, values[merge:], rise)
    if found is values[merge] and merge > 0 and "cat" in str(found.target):
        return values[merge - 1]  # the block is finished before the skip is only laid beside it
    return found


def _first_input(flow: Flow, values: list[fx.Node], within: fx.Node) -> fx.Node:
    """Return the earliest of ``values`` that is given to a module which runs node ``within``; else the last value."""
    order = flow.order(within)
    around = [call for call in flow.trace.calls if call.path and call.first <= order < call.last]
    given = {node for call in around for _, node in call.inputs}
    return next((value for value in values if value in given), values[-1])


def _finest(flow: Flow, chain: list[fx.Node], values: list[fx.Node], head: fx.Node) -> fx.Node:
    """Return the input of the model's own head, or the output where the last block itself makes the logits."""
    if values == [head]:
        return chain[-1]
    event = max((i for i, node in enumerate(values) if flow.joins(node) or node in flow.rises), default=0)
    return _first_input(flow, values[event:], head)
