"""The data flow that leads to one output, reduced to feature maps: sizes, rises, merges, and the trunk through them."""

import bisect
import dataclasses
import functools
import math
import operator
from functools import cached_property

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages import beside_maps
from lomix_search.instrumentation.stages.layouts import broadcast, channels, layout_of, map_size
from lomix_search.instrumentation.stages.operations import (
    SUMS,
    WRITES,
    Operation,
    joins,
    kind,
    only_pads,
    weighted,
)
from lomix_search.instrumentation.stages.sizes import DOUBLE, RISE, Size, grows
from lomix_search.instrumentation.trace import ModuleCall, Trace

_READS_ONE = {Operation.CONVOLUTION, Operation.GRID_SAMPLE, Operation.CROP, Operation.INDEX}
"""What reads one map; its other values are weights or places."""

_COPIES = {*WRITES, Operation.CROP, Operation.INDEX}
"""What puts a map's values into another tensor, each perhaps several times."""


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """The data flow that leads to one output.

    Args:
        trace: One forward pass.
        output: The logits.
        hidden: Nodes that do not count as maps here: the inside of blocks that go down and up again.
        supervised: Maps from which the network makes logits of its own in train mode alone.
    """

    trace: Trace
    output: fx.Node
    hidden: frozenset[fx.Node] = frozenset()
    supervised: frozenset[fx.Node] = frozenset()

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The output and all it depends on, without what does not depend on the inputs (parameters, constants)."""
        whole = self.trace.network()
        alike = [node for node in whole if kind(node) is Operation.CREATION]
        whole.remove_edges_from([(source, node) for node in alike for source in whole.pred[node]])
        like = [node for node in whole if kind(node) is Operation.FORM and node.all_input_nodes[:1] == [*node.args[:1]]]
        whole.remove_edges_from([(one, n) for n in like for one in n.all_input_nodes if one is not n.args[0]])
        fed = set(self.trace.inputs).union(*(nx.descendants(whole, given) for given in self.trace.inputs))
        whole.remove_edges_from([(n.args[0], n) for n in whole if kind(n) is Operation.COPY])  # what was there is lost
        needed = fed & nx.ancestors(whole, self.output) | {self.output}
        whole.remove_nodes_from([node for node in whole if node not in needed])  # a subgraph would lose their order
        return whole

    @cached_property
    def maps(self) -> nx.DiGraph:
        """The feature maps alone; an edge where one leads to another through other values."""
        found = nx.DiGraph()
        behind: dict[fx.Node, tuple[fx.Node, ...]] = {}
        beside = beside_maps.conditions(self.graph)
        for node in sorted(self.graph, key=self.order):
            given = [p for p in self.graph.pred[node] if (p, node) not in beside]
            if kind(node) in _READS_ONE:  # weights and places that a function is given are no map
                given = [p for p in given if p is (*node.args, node.kwargs.get("input"))[0]] or given
            elif kind(node) is Operation.MULTIPLICATION:  # what is multiplied by a gate leads on, the gate does not
                given = [p for p in given if p not in self.gates and not broadcast(p, node)] or given
                given = [p for p in given if not any(self._weighs(p, other, found) for other in given)]
            sources = tuple(dict.fromkeys(s for p in given for s in behind[p]))
            if self._is_map(node):
                found.add_node(node)
                found.add_edges_from((source, node) for source in sources)
                sources = (node,)
            behind[node] = sources
        return found

    def _weighs(self, factor: fx.Node, other: fx.Node, maps: nx.DiGraph) -> bool:
        """Whether a factor is made of the other, which has come up, by going down again: then it is a weight of it."""
        if not {factor, other} <= set(maps) or (sources := nx.ancestors(maps, factor)).isdisjoint({other}):
            return False
        risen = any(
            maps.pred[node] and all(self.climbs(source, node) for source in maps.pred[node])
            for node in nx.ancestors(maps, other) | {other}
        )
        way = sources & nx.descendants(maps, other)
        return risen and any(grows(self.size(node), self.size(other)) for node in way)

    @cached_property
    def gates(self) -> set[fx.Node]:
        """Attention values: what a sigmoid or softmax makes, until a layer with weights works on it."""
        return beside_maps.gates(self.graph, self._orders)

    @cached_property
    def seen(self) -> set[fx.Node]:
        """What a module is given or returns."""
        return {node for call in self.trace.calls for _, node in (*call.outputs, *call.inputs)}

    @cached_property
    def _orders(self) -> dict[fx.Node, int]:
        return dict(sorted(self.graph.nodes(data="order"), key=lambda item: item[1]))

    @cached_property
    def _in_order(self) -> tuple[list[fx.Node], list[int]]:
        return list(self._orders), list(self._orders.values())

    def order(self, node: fx.Node) -> int:
        """Return when a node ran: its position in the trace's graph."""
        return self._orders[node]

    def between(self, start: int, stop: int) -> list[fx.Node]:
        """Return the nodes that ran at positions from ``start`` up to ``stop``, in order."""
        nodes, orders = self._in_order
        return nodes[bisect.bisect_left(orders, start) : bisect.bisect_left(orders, stop)]

    def inside(self, call: ModuleCall) -> list[fx.Node]:
        """Return the nodes that ran during a call, in order."""
        return self.between(call.first, call.last)

    def kind_of(self, path: str) -> str:
        """Return what a module has in common with those that are alike: what they are made of and where, no name."""
        return self.trace.kinds.get(path, path)

    def layers_in(self, call: ModuleCall) -> list[fx.Node]:
        """Return the layers with weights that ran during a call, in order."""
        return [node for node in self.inside(call) if weighted(node)]

    def maps_in(self, call: ModuleCall) -> list[fx.Node]:
        """Return the feature maps that were made during a call, in order."""
        return [node for node in self.inside(call) if node in self.maps]

    def size(self, node: fx.Node) -> Size:
        """Return the spatial size of a feature map."""
        return map_size(node)

    @cached_property
    def rises(self) -> set[fx.Node]:
        """Maps on a finer level than every map they are made from; padding does not count."""
        return {
            node for node, sources in self.maps.pred.items() if sources and all(self.climbs(s, node) for s in sources)
        }

    def climbs(self, source: fx.Node, node: fx.Node) -> bool:
        """Whether a map made from ``source`` is on a finer level; padding does not count, and copying counts less."""
        rise = DOUBLE if kind(node) in _COPIES else RISE
        return not only_pads(node, source) and grows(self.size(source), self.size(node), rise)

    @cached_property
    def risen(self) -> set[fx.Node]:
        """All maps that depend on a rise: decoder, and what looks like one."""
        return self.rises.union(*(nx.descendants(self.maps, rise) for rise in self.rises))

    @cached_property
    def parted(self) -> dict[fx.Node, fx.Node | None]:
        """For each map the last one before it that all ways to it pass, if there is one."""
        root = object()
        graph = self.maps.copy()
        graph.add_edges_from((root, node) for node in self.maps if not self.maps.pred[node])
        found = nx.immediate_dominators(graph, root)
        return {node: None if found[node] is root else found[node] for node in self.maps}

    @cached_property
    def merges(self) -> set[fx.Node]:
        """Maps of the decoder in which two ways meet that parted before this level: skips, but not residual blocks.

        Ways without a layer are forms of one map, as in a resampling that is written out.
        """
        found = set()
        for node in self.maps:
            peers = [s for s in self.maps.pred[node] if not grows(self.size(s), self.size(node))]
            split = self.parted[node]
            near = split in self.risen and not grows(self.size(split), self.size(node))
            if len(peers) < 2 or node not in self.risen or (near and not self._dips(split, node)):
                continue
            if split is None or self.works_between(split, node):
                found.add(node)
        return found

    def _dips(self, start: fx.Node | None, end: fx.Node) -> bool:
        """Whether a way from one map to another of its size goes down and comes up again: that of a second U."""
        between = nx.descendants(self.maps, start) & nx.ancestors(self.maps, end)
        return any(node in self.rises and not grows(self.size(end), self.size(node)) for node in between)

    @cached_property
    def trunk(self) -> list[fx.Node]:
        """The way to the output that goes up most, with the most merges, from its last coarsest map on, in order.

        Of several that do as much, that to which most layers lead, and of those the first. A way that has come up
        less than a third as far as another, to which it comes, is left out: a stream at full size that blocks pool.
        """
        worth: dict[fx.Node, int] = {}
        height: dict[fx.Node, float] = {}
        best: dict[fx.Node, fx.Node | None] = {}
        for node in sorted(self.maps, key=self.order):
            given = self.graph.pred[node]
            ways = [
                (
                    worth[s] + self._climbed(s, node),
                    self.size(s) == self.size(node),
                    s in given,
                    self._wide(s),
                    self._layers[s].bit_count(),
                    -self.order(s),
                    s,
                )
                for s in self.maps.pred[node]
            ]
            up = {way[-1]: self._height(height, way[-1], node) for way in ways}
            height[node] = max(up.values(), default=0.0)
            high = [way for way in ways if 3 * up[way[-1]] > height[node]] or ways
            best[node] = max(high)[-1] if high else None
            most = max((way[0] for way in ways), default=0)
            worth[node] = most + 10 * (node in self.own) + self._worth(node)
        path, resized = [self.output], True  # logits may be brought back to the size of a smaller input
        while (source := best[path[-1]]) is not None:
            resized = resized and not weighted(path[-1]) and len(self.maps.pred[path[-1]]) == 1
            if self._goes_down(source, path[-1]) and not resized:
                break
            path.append(source)
        return path[::-1]

    def _height(self, known: dict[fx.Node, float], source: fx.Node, node: fx.Node) -> float:
        """Return how far a way has come up since it last went down, in doublings of a side, when it comes to a map."""
        before, after = self.size(source), self.size(node)
        steps = [math.log2(b / a) for a, b in zip(before[::-1], after[::-1], strict=False)]
        if node in self.rises:
            return known[source] + max(steps)
        if self._goes_down(source, node):
            return 0.0
        shrinks = _tells(source) and grows(after, before)
        return max(0.0, known[source] + min(steps)) if shrinks else known[source]

    def _goes_down(self, source: fx.Node, node: fx.Node) -> bool:
        """Whether a map is on a coarser level than one that it is made from; padding and logits' axes do not tell."""
        return _tells(source) and grows(self.size(node), self.size(source), DOUBLE)

    @cached_property
    def _layers(self) -> dict[fx.Node, int]:
        """For each value the layers that lead to it, each a bit."""
        found: dict[fx.Node, int] = {}
        for node, order in self._orders.items():
            made = [found[source] for source in self.graph.pred[node]]
            if kind(node) in SUMS and node in self._tail:  # logits of several levels: no way of them has all layers
                made = [max(made, key=int.bit_count, default=0)]
            found[node] = functools.reduce(operator.or_, made, weighted(node) << order)
        return found

    def _climbed(self, source: fx.Node, node: fx.Node) -> int:
        """What a rise is worth: 10 for each doubling, no less than 10, and 1 more, so that no level is jumped over."""
        if node not in self.rises:
            return 0
        ratio = max(b / a for a, b in zip(self.size(source)[::-1], self.size(node)[::-1], strict=False))
        return 10 * max(1, round(math.log2(ratio))) + 1

    def _wide(self, node: fx.Node) -> bool:
        """Whether a map has more channels than the output, which coarser logits laid beside features have not."""
        layout = layout_of(node)
        return layout is not None and layout.channels > self.output.meta["shape"][1]

    def takes_skip(self, node: fx.Node) -> bool:
        """Whether a map that does not come out of the decoder is merged in."""
        return node in self.merges and any(self._is_skip(source, node) for source in self.maps.pred[node])

    def _is_skip(self, source: fx.Node, node: fx.Node) -> bool:
        """Whether a map comes from before the decoder, or was laid beside others only to be merged here."""
        beside = joins(source) and self.size(source) == self.size(node)
        return source not in self.risen or (beside and any(self._is_skip(s, source) for s in self.maps.pred[source]))

    def _worth(self, node: fx.Node) -> int:
        """A skip is worth a rise; a merge of two decoder maps (side outputs, nested skips) less."""
        if node in self._tail and not joins(node):
            return 0  # logits of several levels are summed
        return 10 if self.takes_skip(node) else 3 * (node in self.merges)

    @cached_property
    def own(self) -> set[fx.Node]:
        """Maps from which the network makes coarser logits, which it returns, or lays beside the next level."""
        whole, rank, classes = self.trace.network(), len(self.output.meta["shape"]), self.output.meta["shape"][1]
        shapes = [(node, node.meta.get("shape", ())) for _, node in self.trace.outputs if node is not self.output]
        sides = [node for node, shape in shapes if len(shape) == rank and shape[1] == classes]
        main = self._before_logits(whole, self.output)
        made = {source for node in sides for source in self._before_logits(whole, node)}
        made |= (self.supervised | beside_maps.with_logits_beside(self.graph, classes)) & set(self.maps)
        return {node for node in made if all(grows(self.size(node), self.size(finest)) for finest in main)}

    def _before_logits(self, whole: nx.DiGraph, logits: fx.Node) -> list[fx.Node]:
        """The finest maps that a head is given on the way to some logits: a last layer with weights.

        It may have more layers, if none of them leads to the output.
        """
        found, layers = list[fx.Node](), list[fx.Node]()
        front, passed = [(logits, False)], set()
        while front:
            node, made = front.pop()
            if made and node in self.maps:
                found.append(node)
            elif made and weighted(node):
                layers.append(node)
            elif (node, made) not in passed:
                passed.add((node, made))
                front += [(source, made or weighted(node)) for source in whole.pred[node]]
        if not found and layers:
            found = self._beside_output(whole, layers)
        finest = max((math.prod(self.size(node)) for node in found), default=0)
        return [node for node in found if math.prod(self.size(node)) == finest]

    def _beside_output(self, whole: nx.DiGraph, layers: list[fx.Node]) -> list[fx.Node]:
        """The maps that layers beside the way to the output are made of; none where several levels are."""
        found, front, passed = list[fx.Node](), list(layers), set(layers)
        while front:
            node = front.pop()
            given = [source for source in whole.pred[node] if source.meta.get("map")]
            if any(self.size(source) != self.size(node) for source in given):
                return []
            found += [source for source in given if source in self.maps]
            front += [source for source in given if source not in self.graph and source not in passed]
            passed.update(given)
        return found

    def works_between(self, start: fx.Node, end: fx.Node) -> bool:
        """Whether a layer with weights stands on a way from ``start`` (itself left out) to ``end``."""
        between = nx.descendants(self.graph, start) & ({end} | nx.ancestors(self.graph, end))
        return any(weighted(node) for node in between)

    def _is_map(self, node: fx.Node) -> bool:
        if node in self._tail:
            return node not in self._slices
        found = node.meta.get("map")
        if (
            found is None
            or node in self.hidden
            or node in self.spectra
            or (found.channels < 2 and node not in self.passed)
            or len(found.size) not in self._dims
        ):
            return False
        return node not in self.pooled and node not in self._slices

    @cached_property
    def passed(self) -> set[fx.Node]:
        """Values that all ways from an input to the output pass: even with one channel they are no gates."""
        after, found = nx.immediate_dominators(self.graph.reverse(copy=False), self.output), set[fx.Node]()
        for node in self.trace.inputs:
            while node in after and node is not self.output:
                node = after[node]
                found.add(node)
        return found

    @cached_property
    def spectra(self) -> set[fx.Node]:
        """What a Fourier transform makes, as long as it is complex: its axes are frequencies, so it is no map."""
        return beside_maps.spectra(self.graph, self._orders)

    @cached_property
    def _slices(self) -> set[fx.Node]:
        return beside_maps.slices(self.graph, self._orders)

    @cached_property
    def pooled(self) -> set[fx.Node]:
        """What a global pooling makes, until it meets a map again: a gate or a context, rather than a level."""
        return beside_maps.pooled(self.graph, self._orders)

    @cached_property
    def contexts(self) -> set[fx.Node]:
        """Maps made of nothing but what a global pooling made, spread out again."""
        return {node for node in self.maps if any(s in self.pooled for s in self.graph.pred[node])}

    @cached_property
    def _tail(self) -> set[fx.Node]:
        """The output and what leads to it without another layer; elsewhere, one channel is a gate."""
        found, front, rank = {self.output}, [self.output], len(self.output.meta["shape"])
        while front:
            node = front.pop()
            for source in () if weighted(node) else self.graph.pred[node]:
                fits = len(source.meta.get("shape", ())) == rank
                if fits and channels(source) <= self.output.meta["shape"][1] and source.op != "placeholder":
                    front += [source] * (source not in found)
                    found.add(source)
        return found

    @cached_property
    def _dims(self) -> set[int]:
        """Numbers of spatial axes: the output's, and that of the layers with which the network mostly works."""
        made = [node.meta["map"] for node in self.graph if node.meta.get("map") and kind(node) is Operation.CONVOLUTION]
        dims = [len(layout.size) for layout in made]
        return {len(self.size(self.output)), *(d for d in set(dims) if 4 * dims.count(d) > len(dims))}


def _tells(source: fx.Node) -> bool:
    """Whether the size of a map tells its level: not where it is padded, nor of logits laid out otherwise."""
    return kind(source) is not Operation.PAD and bool(source.meta.get("map"))
