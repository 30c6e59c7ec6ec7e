"""What each level of the ladder could have as its stage, described by few readable features.

No feature reads a name: they count layers and merges, and look at what modules are given and return.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from torch import fx

from lomix_search.instrumentation.stages.cuts import Cuts
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.level_stage import around, last_merge, own_output
from lomix_search.instrumentation.stages.operations import NORMS_AND_ACTIVATIONS, SUMS, Operation, joins, kind, weighted
from lomix_search.instrumentation.stages.sizes import grows

MOST_CANDIDATES = 40
"""Candidates of a level; of more, the last ones."""

TRAITS = (
    "off the trunk", "last of its level", "a merge", "a join", "no layer since the merge", "one layer since",
    "no layer after", "one layer after", "a merge after", "a module returns it", "a block returns it",
    "a block with the rise returns it", "only given to a module", "given to what goes up", "it goes up next",
    "a layer", "a norm or activation", "a sum", "logits of its own", "several users", "read by finer levels",
    "off the trunk, read by finer levels", "beside the trunk", "fewer channels than the level", "the output",
    "the head", "not from the decoder", "channels of the classes", "a block returns it, a merge after",
    "a merge, a module returns it", "no layer since, given to what goes up", "after a merge like those of other levels",
)  # fmt: skip
"""What a candidate is described by; each once for a middle level, once more for the coarsest and for the finest."""

NONE_TRAITS = (
    "no stage",
    "no stage, though it merges",
    "no stage, though logits are made of it",
    "no stage, one layer",
)

SAME = ("operation", "layers since", "merge", "on the trunk", "returned", "block", "given to what goes up", "kind")
"""What two neighbouring stages may have in common."""


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """A level of the ladder.

    Args:
        nodes: Its candidates; the last is None, for no stage.
        unary: Features, candidates × traits.
        alike: What is compared with the neighbouring level, candidates × SAME; the row of None is never the same.
    """

    nodes: tuple[fx.Node | None, ...]
    unary: NDArray[np.float64]
    alike: NDArray[np.int64]


def level_candidates(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> list[Level]:
    """Return all levels of a ladder with their candidates, coarse to fine.

    Args:
        flow: The data flow that leads to the logits.
        levels: The trunk, cut where it rises.
        head: The layer that makes the logits.

    Returns:
        As many levels as were given.
    """
    beside: list[list[fx.Node]] = [[] for _ in levels]
    trunk = set(flow.trunk)
    for node in flow.maps:
        if node in flow.seen and node in flow.risen and node not in trunk and node.op != "placeholder":
            at = _level_of(flow, levels, node)
            if at is not None:
                beside[at].append(node)
    return [_level(flow, levels, i, beside[i], head) for i in range(len(levels))]


def _level_of(flow: Flow, levels: list[list[fx.Node]], node: fx.Node) -> int | None:
    """Return the level whose size a map has."""
    size = flow.size(node)
    for i, values in enumerate(levels):
        whole = flow.size(values[0])
        if len(whole) == len(size) and not grows(whole, size) and not grows(size, whole):
            return i
    return None


def _level(flow: Flow, levels: list[list[fx.Node]], i: int, beside: list[fx.Node], head: fx.Node) -> Level:
    values, finest = levels[i], i == len(levels) - 1
    nodes = [node for node in values if node.op != "placeholder" and (node is not head or finest)]
    cuts = Cuts(flow, values, head if finest else levels[i + 1][0])  # inside a block nothing ends
    nodes = [node for node in nodes if node in flow.own or cuts.end(node) is node][-MOST_CANDIDATES:]
    nodes += beside[-MOST_CANDIDATES:]
    logits = own_output(flow)
    nodes += [logits] * (finest and logits not in nodes)
    view = _View(flow, levels, i, head)
    rows, alike = [view.traits(node) for node in nodes], [view.alike(node) for node in nodes]
    place = 1 if i == 0 else 2 if finest else 0
    count = len(TRAITS)
    unary = np.zeros((len(nodes) + 1, 3 * count + 3 * len(NONE_TRAITS)))
    if nodes:
        unary[:-1, :count] = rows
        if place:
            unary[:-1, place * count : (place + 1) * count] = rows
    start = 3 * count + place * len(NONE_TRAITS)
    unary[-1, start : start + len(NONE_TRAITS)] = view.none()
    apart = [-1 - i] * len(SAME)
    return Level((*nodes, None), unary, np.array([*alike, apart], dtype=np.int64))


class _View:
    """One level, as its candidates are described from it."""

    def __init__(self, flow: Flow, levels: list[list[fx.Node]], i: int, head: fx.Node) -> None:
        self.flow, self.values, self.head, self.finest = flow, levels[i], head, i == len(levels) - 1
        self.merge, self.place = last_merge(flow, self.values), {node: j for j, node in enumerate(self.values)}
        self.logits = own_output(flow)
        self.event = head if self.finest else levels[i + 1][0]
        self.finer = set(flow.maps) - {node for values in levels[: i + 1] for node in values}
        self.widest = max(map(channels, self.values))
        began = flow.order(self.values[0])
        self.returned = {node for call in flow.trace.calls if call.path for _, node in call.outputs}
        blocks = [c for c in flow.trace.calls if c.path and len(flow.layers_in(c)) > 1]
        self.blocks = {node for call in blocks for _, node in call.outputs}
        self.whole = {node for call in blocks if call.first <= began for _, node in call.outputs}
        rising = [call for call, _ in around(flow, self.event)]
        self.up = {node for call in rising if call.first > began for _, node in call.inputs}
        self.up |= set(flow.maps.pred[self.event]) if self.event in flow.maps else set()
        others = [node for level in levels if level is not self.values for node in level if node in flow.merges]
        likewise, scopes = list[bool](), {(_scope(flow, node), kind(node)) for node in others}
        for node in self.values:
            likewise.append(bool(likewise and likewise[-1]) or (_scope(flow, node), kind(node)) in scopes)
        self.likewise = dict(zip(self.values, likewise, strict=True))
        self.kinds = {node: flow.kind_of(call.path) for call in reversed(blocks) for _, node in call.outputs}
        self.layers = {node: sum(map(weighted, flow.layers_in(c))) for c in reversed(blocks) for _, node in c.outputs}

    def traits(self, node: fx.Node) -> list[float]:
        flow, j = self.flow, self.place.get(node)
        on = j is not None
        since = self._since(node)
        later = self.values[j + 1 :] if j is not None else []
        after = sum(weighted(n) for n in later if n is not self.head)
        merged = any(n in flow.merges for n in later)
        merge, join = node in flow.merges, joins(node)
        users = list(flow.maps.succ[node]) if node in flow.maps else []
        finer = any(n in self.finer and flow.climbs(node, n) for n in users)
        block, given = node in self.blocks, node in self.up
        near = not on and any(n in self.place for n in flow.maps.pred[node]) if node in flow.maps else False
        found = (
            not on, on and j == len(self.values) - 1, merge, join, since == 0, since == 1,
            on and after == 0, on and after == 1, merged, node in self.returned, block,
            block and node in self.whole, node in flow.seen and node not in self.returned, given, self.event in users,
            weighted(node), kind(node) in NORMS_AND_ACTIVATIONS, kind(node) in SUMS, node in flow.own, len(users) > 1,
            finer, finer and not on, near, channels(node) < self.widest, node is self.logits, node is self.head,
            node not in flow.risen, channels(node) == flow.output.meta["shape"][1], block and merged,
            merge and node in self.returned, since == 0 and given, self.likewise.get(node, False),
        )  # fmt: skip
        return [float(one) for one in found]

    def alike(self, node: fx.Node) -> list[int]:
        block = self.layers.get(node, 0) if node in self.blocks else 0
        return [
            _operations.index(kind(node)), min(self._since(node), 4), int(node in self.flow.merges),
            int(node in self.place), int(node in self.returned), block, int(node in self.up),
            hash(self.kinds.get(node, node)),
        ]  # fmt: skip

    def none(self) -> list[float]:
        flow, values = self.flow, self.values
        merges, own = any(n in flow.merges for n in values), any(n in flow.own for n in values)
        return [1.0, float(merges), float(own), float(sum(map(weighted, values)) < 2)]

    def _since(self, node: fx.Node) -> int:
        """Layers from the level's last merge before a value, or its rise, to the value; 5 beside the trunk."""
        j = self.place.get(node)
        if j is None:
            return 5
        start = max((i for i, n in enumerate(self.values[: j + 1]) if n in self.flow.merges), default=-1)
        return sum(map(weighted, self.values[start + 1 : j + 1]))


def _scope(flow: Flow, node: fx.Node) -> str:
    return flow.kind_of(str(node.meta.get("module", "")))


_operations = list(Operation)
