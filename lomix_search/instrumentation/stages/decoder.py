"""Data flow → decoder stages: where each level of the trunk is finished, before it goes up or becomes logits."""

import dataclasses
import itertools
import math
from collections.abc import Iterable

from torch import fx

from lomix_search.instrumentation.stages.coarsest_stage import coarsest_stage, source_of_own_logits
from lomix_search.instrumentation.stages.finest_stage import embedded, finest_stage, only_activated
from lomix_search.instrumentation.stages.flow import DOUBLE, Flow, channels, grows, unnumbered
from lomix_search.instrumentation.stages.level_stage import around, last_merge, level_stage, worked
from lomix_search.instrumentation.stages.levels import levels_of
from lomix_search.instrumentation.stages.operations import Operation, kind, weighted
from lomix_search.instrumentation.trace import Call, Trace


def decoder_stages(trace: Trace, output: fx.Node, supervised: Iterable[fx.Node] = ()) -> list[fx.Node]:
    """Return the values at which the decoder finishes each resolution, coarse to fine; the last may be the output.

    Args:
        trace: One forward pass.
        output: The model's main logits.
        supervised: Maps from which the model makes logits of its own in train mode alone.

    Returns:
        Nodes of the trace's graph; none if nothing rises to the output.
    """
    flow = _folded(_without_contexts(Flow(trace, output, supervised=frozenset(supervised))))
    levels, head = levels_of(flow)
    if len(levels) > 2 and levels[-1] == [head] and not _peers(flow, levels) and _enlarges(flow, levels[-2], head):
        found = _ladder(flow, levels[:-1], head)  # the head goes up, and makes no level unless it is the second
        return found if len(found) > 1 else _ladder(flow, levels, head)
    return _ladder(flow, levels, head)


def _ladder(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> list[fx.Node]:
    """Return the stages of a trunk that is cut into levels."""
    if len(levels) < 2:
        return []
    if pyramid := _gathered(flow, levels[-1]):
        return pyramid
    coarser, levels = _mixed(flow, levels)
    found = [*coarser, *_below_the_finest(flow, levels, bool(coarser))]
    finest = embedded(flow, found, head) or finest_stage(flow, levels[-1], head, found)
    if finest is flow.output and only_activated(flow, head):
        finest = head
    return [_unpadded(flow, node) for node in (*found, finest) if node]


def _below_the_finest(flow: Flow, levels: list[list[fx.Node]], mixed: bool) -> list[fx.Node]:
    """Return the stages of all levels but the last: what the network itself makes logits from, else what is finished.

    Where it makes logits from all of them but the coarsest, that one is none. What was ``mixed`` with coarser maps is.
    """
    levels = _without_lifts(flow, levels)
    own = [source_of_own_logits(flow, values) for values in levels]
    found = [own[i] or level_stage(flow, levels[i], levels[i + 1][0]) for i in range(len(levels) - 1) if i or mixed]
    supervised = any(own) and own[0] is None
    bottom = None if mixed or supervised else coarsest_stage(flow, levels)
    if bottom and own[0] and sum(map(weighted, levels[0][levels[0].index(own[0]) + 1 :])) < 2:
        bottom = own[0]  # and no map of the encoder, far below
    return [bottom, *found] if bottom else found


def _without_lifts(flow: Flow, levels: list[list[fx.Node]]) -> list[list[fx.Node]]:
    """Leave out of each level the block that only prepares the next, with fewer channels, as the coarsest has one too.

    As in ``decoder[2](decoder[1](cat([up(x), skip])))``, where the coarsest level has ``decoder[0]`` alone.
    """
    blocks = [_blocks(flow, values, after[0]) for values, after in itertools.pairwise(levels)]
    if len(blocks) < 2 or not blocks[0] or len(blocks[1]) < 2:
        return levels
    lift, kinds = unnumbered(blocks[1][-1].path), {unnumbered(call.path) for call in blocks[1]}
    below = [call for call in blocks[0] if unnumbered(call.path) in kinds]
    if not 0 < len(below) < len(blocks[1]) or unnumbered(blocks[0][-1].path) != lift:
        return levels
    lifts = [calls[-1].first if calls and unnumbered(calls[-1].path) == lift else None for calls in blocks]
    kept = [[n for n in v if i is None or flow.order(n) < i] for v, i in zip(levels, lifts, strict=False)]
    if not all(kept) or any(channels(a[-1]) <= channels(b[-1]) for a, b in zip(kept[1:], levels[1:], strict=False)):
        return levels
    return [*kept, levels[-1]]


def _blocks(flow: Flow, values: list[fx.Node], event: fx.Node) -> list[Call]:
    """The outermost modules with layers that work on a level one after another, from its last merge to ``event``."""
    began = [flow.order(n) + 1 for n in values if n in flow.merges or n in flow.rises]
    start, stop = max(began, default=0), flow.order(event)
    found: list[Call] = []
    for call in flow.trace.calls:
        inside = start <= call.first and call.last <= stop and not any(outer.holds(call) for outer in found)
        if inside and any(weighted(n) and call.first <= flow.order(n) < call.last for n in values):
            found.append(call)
    return found


def _folded(flow: Flow) -> Flow:
    """Hide the inside of blocks that go down and up again, unless that is where the network's own ladder runs.

    The network's ladder is outside if what is left without the blocks rises as often as any block does, with skips.
    """
    blocks = _dips(flow)
    folded = dataclasses.replace(flow, hidden=flow.hidden | _inside(flow, blocks))
    outer = sum(node in folded.rises for node in folded.trunk)
    inner = max(
        (sum(c.first <= flow.order(n) < c.last for n in flow.trunk if n in flow.rises) for c in blocks), default=0
    )
    skips = any(folded.takes_skip(node) for node in folded.trunk)
    return folded if skips and outer >= max(inner, 2) else flow


def _without_contexts(flow: Flow) -> Flow:
    """Hide the inside of blocks that pool what they are given to several sizes, and bring all of that back to one."""
    blocks = [call for call in _dips(flow) if _only_pools(flow, call)]
    made = frozenset(node for call in blocks for _, node in call.outputs)
    return dataclasses.replace(flow, hidden=flow.hidden | _inside(flow, blocks), gathered=made) if blocks else flow


def _only_pools(flow: Flow, call: Call) -> bool:
    """Whether all that is coarser in a block than what it is given comes of pooling that itself, without a layer."""
    given = [node for _, node in call.inputs if node in flow.graph]
    inside = [node for node in flow.maps if call.first <= flow.order(node) < call.last]
    falls = [n for n in inside if any(grows(flow.size(n), flow.size(source)) for source in flow.maps.pred[n])]
    return bool(falls) and not any(weighted(n) or any(flow.works_between(g, n) for g in given) for n in falls)


def _inside(flow: Flow, blocks: Iterable[Call]) -> frozenset[fx.Node]:
    """The nodes of some blocks, without what they return."""
    inside = {node for call in blocks for node in flow.graph if call.first <= flow.order(node) < call.last}
    return frozenset(inside - {node for call in blocks for _, node in call.outputs})


def _dips(flow: Flow) -> list[Call]:
    """The outermost module calls that go coarser than all they are given, and back to the size of one of the inputs."""
    found: list[Call] = []
    for call in flow.trace.calls:
        if call.path and not any(outer.holds(call) for outer in found):
            inside = [node for node in flow.maps if call.first <= flow.order(node) < call.last]
            given = {flow.size(node) for _, node in call.inputs if node.meta.get("map") and node in flow.graph}
            made = {flow.size(node) for _, node in call.outputs if node in flow.graph}
            if given & made and any(all(grows(flow.size(node), size) for size in given) for node in inside):
                found.append(call)
    return found


def _gathered(flow: Flow, values: list[fx.Node]) -> list[fx.Node]:
    """Where a level begins with maps of three sizes or more brought to one and merged: those, coarse to fine.

    Only if the decoder made all of them, each size once, as pyramids do that go up and down again; none otherwise.
    """
    merges = list(itertools.takewhile(flow.merges.__contains__, values[1:]))
    given = {source for node in merges for source in flow.maps.pred[node]} - set(merges)
    made = set().union(*(_unresized(flow, node) or {node} for node in given))
    sizes = {flow.size(node) for node in made}
    if values[0] in flow.rises and 2 < len(made) == len(sizes) and made <= flow.risen:
        return sorted(made, key=lambda node: math.prod(flow.size(node)))
    return []


def _unresized(flow: Flow, node: fx.Node) -> set[fx.Node]:
    """Return the maps of which another holds nothing but larger copies, one or merged; none for any other map."""
    sources = list(flow.maps.pred[node])
    if weighted(node) or not sources:
        return set()
    if node in flow.rises and len(sources) == 1:
        return set(sources)
    parts = [_unresized(flow, source) for source in sources]
    return set().union(*parts) if all(parts) else set()


def _mixed(flow: Flow, levels: list[list[fx.Node]]) -> tuple[list[fx.Node], list[list[fx.Node]]]:
    """Where the trunk passes a map that was mixed with coarser ones in one sequence: those, and its levels from there.

    No maps, and all levels, where it passes the coarsest one or none.
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


def _enlarges(flow: Flow, values: list[fx.Node], head: fx.Node) -> bool:
    """Whether the head alone only enlarges a level: one that is finished, or far more than one level up."""
    return worked(flow, values, last_merge(flow, values), values[-1]) or grows(
        flow.size(values[-1]), flow.size(head), 2 * DOUBLE
    )


def _peers(flow: Flow, levels: list[list[fx.Node]]) -> bool:
    """Whether what goes up to the last level is called as what goes up to the two before it, but for numbers."""
    if len(levels) < 4:
        return False
    calls = [[call for call, _ in around(flow, values[0])] for values in levels[-3:]]
    apart = [{unnumbered(call.path) for call in own if sum(call in others for others in calls) == 1} for own in calls]
    return bool(set.intersection(*apart))


def _unpadded(flow: Flow, node: fx.Node) -> fx.Node:
    """Return what a map was before it was padded."""
    while not weighted(node) and kind(node) is Operation.PAD and len(flow.maps.pred[node]) == 1:
        (node,) = flow.maps.pred[node]
    return node
