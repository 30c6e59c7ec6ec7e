"""Levels that lie beside each other: maps of several sizes brought to one and merged, or mixed in one sequence."""

import itertools
import math
from collections.abc import Iterator

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.level_stage import last_merge, unbrought, worked, works_at_one_size
from lomix_search.instrumentation.stages.operations import (
    KEEPS_VALUES,
    LEARNED,
    PADS_OR_CROPS,
    SUMS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.stages.sizes import grows
from lomix_search.instrumentation.trace import ModuleCall


def merged_pyramid(flow: Flow, values: list[fx.Node]) -> list[fx.Node]:
    """Return the maps of three sizes or more that are brought to one and merged where a level begins, coarse to fine.

    None unless the decoder made all of them, each size once, as pyramids do that go up and down again; where blocks of
    one kind bring them up, the coarsest need not have come down to its size.
    """
    after = itertools.dropwhile(lambda node: kind(node) in PADS_OR_CROPS, values[1:])
    merges = list(itertools.takewhile(flow.merges.__contains__, after))
    given = {source: node for node in merges for source in flow.maps.pred[node] if source not in merges}
    parts = {one for source, node in given.items() for one in _summands(flow, source, node)}
    ways = [{one for node in nodes for one in unresized(flow, node) or {node}} for nodes in (given, parts)]
    blocks = blocks_to_one_size(flow, values)
    if blocks:
        ways = [
            {_smoothed(flow, call) or next((n for _, n in call.inputs if n in flow.maps), values[0]) for call in blocks}
        ]
    for made in ways if values[0] in flow.rises else []:
        found = sorted(made, key=lambda node: math.prod(flow.size(node)))
        if 2 < len(made) == len(set(map(flow.size, made))) and flow.risen.issuperset(found[bool(blocks) :]):
            return found
    return []


def _smoothed(flow: Flow, call: ModuleCall) -> fx.Node | None:
    """Return what a block makes of a level before it brings that up, if it works at one size only."""
    made = [unbrought(flow, node) for _, node in call.outputs if node in flow.maps]
    return made[0] if made and works_at_one_size(flow, call) else None


def projected_levels(flow: Flow, values: list[fx.Node]) -> list[fx.Node]:
    """Return what layers make of an encoder's levels, each by itself, to be brought to one size and merged.

    Args:
        flow: The data flow.
        values: The maps of the level where they are merged.

    Returns:
        Maps of two sizes or more, coarse to fine, each size once; none where a level is merged as the encoder made it.
    """
    arrived = list(itertools.takewhile(lambda node: node not in flow.merges, values))
    merges = list(itertools.takewhile(flow.merges.__contains__, values[len(arrived) :]))
    if joins(values[0]) and not flow.rises:  # logits of one class, of each level, are no maps
        merges = values[:1]
    elif any(map(weighted, arrived[1:])):
        return []
    given = {source for node in merges for source in flow.maps.pred[node] if source not in merges}
    made = sorted({unbrought(flow, node) for node in given}, key=lambda node: math.prod(flow.size(node)))
    apart = len(made) > 1 and all(grows(flow.size(a), flow.size(b)) for a, b in itertools.pairwise(made))
    sources = [_given_to_a_head(flow, node) for node in made]
    if apart and flow.own.issuperset(sources[:-1]):  # the network returns the logits of each
        return sources
    work = [_projection(flow, node) for node in made[1:]] if apart else []
    alike = all(work) and any(_work(flow, made[0])[: len(one)] == one for one in work)
    return [_before_forms(flow, node) for node in made] if alike else []


def _given_to_a_head(flow: Flow, node: fx.Node) -> fx.Node:
    """Return what one layer makes logits of; other maps as they are."""
    logits = node
    while kind(logits) in KEEPS_VALUES and len(flow.maps.pred[logits]) == 1:
        (logits,) = flow.maps.pred[logits]
    made = list(flow.maps.pred[logits])
    return made[0] if weighted(logits) and channels(logits) == channels(flow.output) and len(made) == 1 else node


def projected_to_add(flow: Flow, maps: list[fx.Node]) -> bool:
    """Whether all maps of a pyramid but the finest end with the same layer, and the finest does not."""
    *coarser, finest = [_last_work(flow, node) for node in maps]
    return bool(coarser) and all(one == coarser[0] for one in coarser) and coarser[0] != finest


def _last_work(flow: Flow, node: fx.Node) -> list[Operation]:
    """Return what makes a map, the last first, back to its last layer."""
    made = _work(flow, node)
    layer = next((i for i, one in enumerate(made) if one in LEARNED), len(made))
    return made[: layer + 1]


def _before_forms(flow: Flow, node: fx.Node) -> fx.Node:
    """Return the nearest map, back from one that no module sees, of which that is but another form."""
    seen = node
    while seen not in flow.seen and kind(seen) in KEEPS_VALUES and len(flow.maps.pred[seen]) == 1:
        (seen,) = flow.maps.pred[seen]
    return seen if seen in flow.seen else node


def _projection(flow: Flow, node: fx.Node) -> list[Operation]:
    """Return the work, in one size and for this alone, by which a map is made of one that leads elsewhere too."""
    own = nx.ancestors(flow.graph, node) | {node}
    for source in _back(flow, node):
        if flow.size(source) != flow.size(node) or source in flow.contexts:
            break
        if not own.issuperset(flow.maps.succ[source]):
            return _work(flow, node, source) if flow.works_between(source, node) else []
    return []


def _back(flow: Flow, node: fx.Node) -> Iterator[fx.Node]:
    """Yield what a map is made of; where several ways meet, where they parted."""
    while sources := list(flow.maps.pred[node]):
        source = sources[0] if len(sources) == 1 else flow.parted[node]
        if source is None:
            return
        node = source
        yield node


def _work(flow: Flow, node: fx.Node, until: fx.Node | None = None) -> list[Operation]:
    """Return what makes a map, the last first, without what only gives it another form."""
    steps = itertools.takewhile(lambda one: one is not until, (node, *_back(flow, node)))
    return [kind(one) for one in steps if kind(one) not in KEEPS_VALUES]


def _summands(flow: Flow, node: fx.Node, merge: fx.Node) -> set[fx.Node]:
    """Return the maps of which a map is the sum, if all it is made for is to be summed up further."""
    if node not in flow.merges or kind(node) not in SUMS or kind(merge) not in SUMS or len(flow.maps.succ[node]) > 1:
        return {node}
    return {one for source in flow.maps.pred[node] for one in _summands(flow, source, node)}


def merged_below(flow: Flow, levels: list[list[fx.Node]]) -> tuple[list[fx.Node], list[list[fx.Node]]]:
    """Return a pyramid of which all maps are merged before the last level, and the levels from there on.

    Its map of that size is left out if layers work on what is merged; else that level is. No maps, and all levels,
    where nothing is merged so.
    """
    for i, values in reversed(list(enumerate(levels[:-1]))):
        if pyramid := merged_pyramid(flow, values):
            if not worked(flow, values, last_merge(flow, values), values[-1]):
                return pyramid, levels[i + 1 :]
            return [node for node in pyramid if grows(flow.size(node), flow.size(values[0]))], levels[i:]
    return [], levels


def exchanged_below(flow: Flow, levels: list[list[fx.Node]]) -> tuple[list[fx.Node], list[list[fx.Node]]]:
    """Return the coarser maps that the last exchange adds to one of the trunk, and the levels from there on.

    In an exchange each of several parallel branches adds those of all other sizes, so that levels before it went up
    and down. No maps, and all levels, where there is none.
    """
    for i, values in reversed(list(enumerate(levels[:-1]))):
        merge = values[last_merge(flow, values)]
        parts = {one for source in flow.maps.pred[merge] for one in _summands(flow, source, merge)}
        ups = [unbrought(flow, node) for node in parts if unbrought(flow, node) is not node]
        downs = [node for node in parts if node in flow.risen and _came_down(flow, node)]
        whole = {flow.size(node) for node in ups}.issuperset(flow.size(below[-1]) for below in levels[:i])
        if kind(merge) in SUMS and ups and downs and whole and len(parts) > len(ups) + len(downs):
            coarser = [_branch(flow, node) for node in ups]
            return sorted(coarser, key=lambda node: math.prod(flow.size(node))), levels[i:]
    return [], levels


def _came_down(flow: Flow, node: fx.Node) -> bool:
    """Whether layers made a map of a larger one, with nothing else beside."""
    while len(flow.maps.pred[node]) == 1:
        (source,) = flow.maps.pred[node]
        if grows(flow.size(node), flow.size(source)):
            return True
        node = source
    return False


def _branch(flow: Flow, node: fx.Node) -> fx.Node:
    """Return the map that leads elsewhere too, of which one is a projection; else that one."""
    for source in (node, *_back(flow, node)):
        if flow.size(source) != flow.size(node):
            break
        if len(flow.maps.succ[source]) > 1:
            return source
        if len(flow.maps.pred[source]) > 1:
            break
    return node


def blocks_to_one_size(flow: Flow, values: list[fx.Node]) -> list[ModuleCall]:
    """Return the blocks of one kind that bring maps to one size, which are then merged where a level begins.

    Args:
        flow: The data flow.
        values: The maps of the level.

    Returns:
        Calls that each make one of the maps that are merged; none where a map is made by no such block.
    """
    blocks = [call for call in flow.trace.calls if call.path and flow.layers_in(call)]
    made = {node: call for call in reversed(blocks) for _, node in call.outputs}
    left, found = [values[1]] if len(values) > 1 and values[1] in flow.merges else [], list[ModuleCall]()
    while left:
        node = left.pop()
        sources = list(flow.maps.pred[node])
        if node in made and node is not values[1]:
            found.append(made[node])
        elif weighted(node) or node in flow.rises or not sources:
            return []
        else:
            left += sources
    return found if len({flow.kind_of(call.path) for call in found}) == 1 else []


def unresized(flow: Flow, node: fx.Node) -> set[fx.Node]:
    """Return the maps of which a value holds only larger copies, one or several merged; none for other values.

    Args:
        flow: The data flow.
        node: A map.
    """
    sources = list(flow.maps.pred[node])
    if weighted(node) or not sources:
        return set()
    if node in flow.rises and len(sources) == 1:
        return {_unpadded(flow, sources[0])}
    parts = [unresized(flow, source) for source in sources]
    return set().union(*parts) if all(parts) else set()


def _unpadded(flow: Flow, node: fx.Node) -> fx.Node:
    while kind(node) is Operation.PAD and len(flow.maps.pred[node]) == 1:
        (node,) = flow.maps.pred[node]
    return node


def mixed_with_coarser(flow: Flow, levels: list[list[fx.Node]]) -> tuple[list[fx.Node], list[list[fx.Node]]]:
    """Return the coarser maps with which a map of the trunk was mixed in one sequence, and the levels from there on.

    No maps, and all levels, where the trunk passes no such map, or the coarsest of them.
    """
    places = [(i, j) for i, values in enumerate(levels) for j, node in enumerate(values) if node.meta.get("whole")]
    if not places:
        return [], levels
    i, j = places[-1]
    here = levels[i][j]
    parts = [node for node in flow.trace.graph.nodes if node.meta.get("whole") is here.meta["whole"]]
    coarser = sorted((node for node in parts if grows(flow.size(node), flow.size(here))), key=flow.size)
    return ([_shown(flow, node) for node in coarser], [levels[i][j:], *levels[i + 1 :]]) if coarser else ([], levels)


def _shown(flow: Flow, node: fx.Node) -> fx.Node:
    """Return the first form of a map that a module sees; only changes of its layout are followed."""
    while node not in flow.seen:
        forms = [n for n in node.users if len(n.all_input_nodes) == 1 and not weighted(n)]
        forms = [n for n in forms if n.meta.get("map") and flow.size(n) == flow.size(node)]
        if not forms:
            break
        node = forms[0]
    return node
