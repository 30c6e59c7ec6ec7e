"""With which value a level is finished before the trunk goes on to the next."""

import itertools
import math
from collections.abc import Iterator, Sequence

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.ending import before_activation
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.operations import (
    KEEPS_VALUES,
    NORMS_AND_ACTIVATIONS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.trace import ModuleCall

_SCALES = {Operation.MULTIPLICATION, Operation.ADDITION}


def level_stage(flow: Flow, values: list[fx.Node], event: fx.Node, merge: int | None = None) -> fx.Node:
    """Return the value with which a level is finished before ``event`` takes it to the next.

    That is what the next block is given, if work was done since the last merge; where the block that goes up also
    does this level's work, the value inside it.
    """
    if merge is None:
        merge = last_merge(flow, values)
    for call, child in around(flow, event):
        given = first_given(call, values[merge:])
        if given is None:
            block = not joins(values[merge]) and not _sums_levels(flow, values[merge]) and _is_block(flow, call)
            source = first_given(call, values[:merge]) if block else None
            if source and worked(flow, values, 0, source) and _works_after(flow, call, None, event):
                return source  # the block adds, goes up and works on the next level: that is where blocks end
            continue
        before = worked(flow, values, merge, given)
        laid = flow.takes_skip(values[merge]) or _laid_first(flow, values, merge) or _lays_levels(flow, values[merge])
        works = laid or (not before and flow.works_between(given, values[-1]))
        goes_on = before and _goes_on(flow, call, values, event)
        if (works and not _is_block(flow, call)) or goes_on or _is_head(flow, call, event):
            continue  # what it works on before it goes up is this level's
        if before and not (values[merge] not in flow.merges and _works_likewise(flow, call, event)):
            return given
        if given is values[merge] and _made_by_a_peer(flow, call, given):
            return given
        if _works_after(flow, call, child, event):
            return unworked(flow, values, merge, given)
    done = [value for value in values[merge:] if worked(flow, values, merge, value)]
    seen = [value for value in done if value in flow.seen]
    return (seen or done or [unworked(flow, values, merge, values[-1])])[-1]


def _laid_first(flow: Flow, values: list[fx.Node], merge: int) -> bool:
    """Whether maps are laid beside each other where a level begins, before a layer has worked there."""
    return merge > 0 and joins(values[merge]) and not worked(flow, values, 0, values[merge - 1])


def _lays_levels(flow: Flow, node: fx.Node) -> bool:
    """Whether maps of two coarser levels or more, only resized, are laid beside each other."""
    ups = [one for one in flow.maps.pred[node] if one in flow.rises] if joins(node) else []
    return len({flow.size(source) for one in ups for source in flow.maps.pred[one]}) > 1


def last_merge(flow: Flow, values: Sequence[fx.Node]) -> int:
    """Return where in a level ways meet for the last time; 0, where the level begins, if they meet nowhere."""
    return max((i for i, node in enumerate(values) if node in flow.merges), default=0)


def around(flow: Flow, event: fx.Node) -> Iterator[tuple[ModuleCall, ModuleCall | None]]:
    """Yield the module calls that run a node, outermost first, each with the next one inside it."""
    order = flow.order(event)
    calls = [call for call in flow.trace.calls if call.path and call.first <= order < call.last]
    yield from itertools.zip_longest(calls, calls[1:])


def own_output(flow: Flow) -> fx.Node:
    """Return the output; before a last softmax or sigmoid, if that does not stand in one block with what makes it.

    Likewise before it is given back the scale of the input, by numbers of which each image has one, or its size.
    """
    logits = before_activation(flow.output)
    logits = _unscaled(flow) if logits is flow.output else logits
    while kind(logits) is Operation.UPSAMPLE and len(given := list(flow.graph.pred[logits])) == 1:
        (logits,) = given
    blocks = [call for call, _ in around(flow, logits) if _is_block(flow, call)]
    made = logits is flow.output or any(
        flow.order(logits) < flow.order(node) for call in blocks for node in flow.inside(call)
    )
    return flow.output if made else logits


def _unscaled(flow: Flow) -> fx.Node:
    """Return what the output was before the network multiplied it by, or added, one value for each image or channel."""
    node = found = flow.output
    while not weighted(node) and (given := list(flow.graph.pred[node])):
        made = [one for one in given if math.prod(one.meta.get("shape", ())[2:]) > 1]
        scaled = kind(node) in _SCALES and len(given) == 2
        if len(made) != 1 or made[0] not in flow.maps or not (scaled or kind(node) in KEEPS_VALUES):
            break
        only_form = kind(node) is Operation.FORM
        (node,) = made
        found = node if scaled or (found is not flow.output and not only_form) else found
    return found


def composite(flow: Flow, call: ModuleCall) -> bool:
    """Whether a call makes more than one map."""
    return len(flow.maps_in(call)) > 1


def first_given(call: ModuleCall, values: Sequence[fx.Node]) -> fx.Node | None:
    """Return the first of some values that a call is given."""
    given = {node for _, node in call.inputs}
    return next((value for value in values if value in given), None)


def worked(flow: Flow, values: list[fx.Node], merge: int, value: fx.Node) -> bool:
    """Return whether a layer with weights stands between a level's last merge and a value, or where it arrives.

    Of several ways on which it goes up, a layer may stand on any.
    """
    arrived = values[: values.index(value) + 1] if merge == 0 and values[0] not in flow.merges else []
    ups = [source for node in arrived for source in flow.maps.pred[node] if source in flow.rises]
    if any(map(weighted, (*arrived, *ups))) or flow.works_between(values[merge], value):
        return True
    return bool(arrived) and _expanded(flow, values[0])


def _expanded(flow: Flow, node: fx.Node) -> bool:
    """Whether a map that rises lays out as positions the channels that a layer made for this, as all other layers do.

    The one that makes the logits need not.
    """
    rises = [one for one in flow.trunk if one in flow.rises]
    if node not in rises or not _laid_out(flow, node):
        return False
    layers = [one for one in flow.trunk[flow.trunk.index(rises[0]) :] if weighted(one)]
    return set(layers[:-1]) <= {made for one in rises for made in _laid_out(flow, one)}


def _laid_out(flow: Flow, node: fx.Node) -> list[fx.Node]:
    """Return the layer that makes more channels, if a map only lays these out as positions; it alone, or none."""
    before = node
    while len(sources := list(flow.maps.pred[before])) == 1 and not weighted(before):
        (before,) = sources
        if math.prod(before.meta["shape"]) != math.prod(node.meta["shape"]):
            return []
    return [before] if weighted(before) and channels(before) > max(map(channels, sources), default=0) else []


def _goes_on(flow: Flow, call: ModuleCall, values: list[fx.Node], event: fx.Node) -> bool:
    """Whether the call that goes up works on this level before, in blocks of several layers, and not on the next.

    One layer that smooths what was resized is no work on the next level.
    """
    order = flow.order(event)
    if smoothing(flow, call, event) is None and any(map(weighted, flow.between(order + 1, call.last))):
        return False
    blocks = [c for c in flow.trace.calls if c is not call and call.holds(c) and c.last <= order]
    blocks = [block for block in blocks if len(flow.layers_in(block)) > 1]
    return any(made in values for block in blocks for _, made in block.outputs)


def smoothing(flow: Flow, call: ModuleCall, event: fx.Node) -> fx.Node | None:
    """Return the one layer that works on what was resized in a call, after all else that does; None where others do."""
    after = [node for node in flow.between(flow.order(event) + 1, call.last) if weighted(node)]
    alone = len(after) == 1 and after[0] in flow.maps and event in flow.maps.pred[after[0]]
    return after[0] if alone and not weighted(event) else None


def _is_head(flow: Flow, call: ModuleCall, event: fx.Node) -> bool:
    """Whether a block of layers goes up once and makes the logits, and no other block is of its kind."""
    if any(map(weighted, flow.between(call.last, flow.order(flow.output) + 1))):
        return False
    rises = [node for node in flow.inside(call) if node in flow.rises]
    alike = [other for other in flow.trace.calls if flow.kind_of(other.path) == flow.kind_of(call.path)]
    return rises == [event] and all(event in flow.inside(other) for other in alike)


def _works_likewise(flow: Flow, call: ModuleCall, event: fx.Node) -> bool:
    """Whether a block of the kind of one that goes up works on what is merged right before it, and then goes up."""
    for other in flow.trace.calls:
        if other is call or flow.kind_of(other.path) != flow.kind_of(call.path):
            continue
        given = [node for _, node in other.inputs if node in flow.merges and joins(node)]
        rise = next((node for node in flow.inside(other) if node in flow.rises), None)
        if given and rise and any(map(weighted, flow.between(other.first, flow.order(rise)))):
            return not any(map(weighted, flow.between(flow.order(rise) + 1, other.last)))
    return False


def _made_by_a_peer(flow: Flow, call: ModuleCall, given: fx.Node) -> bool:
    """Whether a block returns a sum, and is of one kind with the block that takes it further."""
    if given not in flow.merges or joins(given) or refined(flow, given) is not None:
        return False
    makers = [c for c in flow.trace.calls if c is not call and any(out is given for _, out in c.outputs)]
    return any(flow.kind_of(maker.path) == flow.kind_of(call.path) for maker in makers)


def _works_after(flow: Flow, call: ModuleCall, child: ModuleCall | None, event: fx.Node) -> bool:
    """Whether the call goes on working after the part of it that contains the event."""
    start = child.last if child else flow.order(event) + 1
    return any(weighted(node) or node in flow.merges for node in flow.between(start, call.last))


def unworked(flow: Flow, values: list[fx.Node], merge: int, given: fx.Node) -> fx.Node:
    """Return the stage where nothing works on the last merge: what a branch makes of it, or what came before it."""
    node = values[merge]
    if node not in flow.merges or merge == 0:
        return given
    if joins(node):
        return node if _branches(flow, node) else _of_this_size(flow, values, merge) or values[merge - 1]
    if (beside := refined(flow, node)) is not None:
        return beside
    if _sums_levels(flow, node):
        return _as_returned(flow, values, merge)
    made_here = any(map(weighted, values[:merge]))  # before the sum, unless that is but the coarser map, resized
    return (
        values[merge - 1] if made_here and not _branches(flow, node) and not _ends_block(flow, node, values) else node
    )


def _of_this_size(flow: Flow, values: list[fx.Node], merge: int) -> fx.Node | None:
    """Return the one map of the decoder beside which coarser ones are laid, only resized, where a level begins."""
    own = [node for node in flow.maps.pred[values[merge]] if node in flow.risen - flow.rises]
    return own[0] if _laid_first(flow, values, merge) and len(own) == 1 else None


def _as_returned(flow: Flow, values: list[fx.Node], merge: int) -> fx.Node:
    """Return a sum, or what the block that makes it returns of it after a norm or an activation."""
    steps = itertools.takewhile(lambda node: kind(node) in NORMS_AND_ACTIVATIONS, values[merge + 1 :])
    calls = [call for call in flow.trace.calls if call.path and call.first <= flow.order(values[merge])]
    returned = {node for call in calls for _, node in call.outputs}
    return next((node for node in reversed(list(steps)) if node in returned), values[merge])


def _sums_levels(flow: Flow, node: fx.Node) -> bool:
    """Whether maps are added up that all come from the trunk's coarsest one, as pyramids do: then none is a skip."""
    if node not in flow.merges or joins(node):
        return False
    made = nx.descendants(flow.maps, flow.trunk[0])
    return all(source in made for source in flow.maps.pred[node])


def _is_block(flow: Flow, call: ModuleCall) -> bool:
    """Whether the trunk goes up once in a call at most; what goes up several times holds blocks of several levels."""
    rises = flow.rises & set(flow.trunk)
    return sum(node in rises for node in flow.inside(call)) < 2


def _users(flow: Flow, node: fx.Node) -> list[ModuleCall]:
    """Return the module calls that are given a map; of a block that is given it, only the whole."""
    users = [call for call in flow.trace.calls if call.path and any(given is node for _, given in call.inputs)]
    users = [call for call in users if _is_block(flow, call)]
    return [call for call in users if not any(other is not call and other.holds(call) for other in users)]


def _branches(flow: Flow, node: fx.Node) -> bool:
    """Whether a module beside the trunk takes a map, on another way to the output: as pyramids do whose levels join."""
    users = [user for user in _users(flow, node) if not any(made in flow.trunk for _, made in user.outputs)]
    layers = [flow.layers_in(user) for user in users]
    return any(made and not set(made) & set(flow.trunk) for made in layers)


def _ends_block(flow: Flow, node: fx.Node, values: list[fx.Node]) -> bool:
    """Whether a merge is what a module returns that also made the level, or has layers of its own for the merge."""
    first = flow.order(values[0])
    calls = [call for call in flow.trace.calls if call.path and any(out is node for _, out in call.outputs)]
    return any(call.first <= first or flow.layers_in(call) for call in calls)


def refined(flow: Flow, node: fx.Node) -> fx.Node | None:
    """Return what a module makes of a map, at the same size, beside the trunk and on the way to the output.

    What it only makes larger at its end, as others of its kind do, is taken before. Likewise what further modules make
    of that, one after the other, where the same block calls them.
    """
    for call in _users(flow, node):
        for made in (made for _, made in call.outputs if made in flow.maps):
            done = unbrought(flow, made) if works_at_one_size(flow, call) else made
            if done not in flow.trunk and flow.size(done) == flow.size(node):
                return _worked_on(flow, call, _activated(flow, done))
    return None


def _worked_on(flow: Flow, call: ModuleCall, node: fx.Node) -> fx.Node:
    """Return what is made of a map in the block that runs a call, before it is resized, merged or made logits of."""
    within = min((one.last for one in flow.trace.calls if one.path and one is not call and one.holds(call)), default=0)
    classes = flow.output.meta["shape"][1]
    while len(after := list(flow.maps.succ[node])) == 1 and flow.order(after[0]) < within:
        ends = joins(after[0]) or after[0] in flow.merges or flow.size(after[0]) != flow.size(node)
        if ends or after[0] in flow.trunk or (weighted(after[0]) and channels(after[0]) == classes):
            break
        node = _activated(flow, after[0])
    return node


def works_at_one_size(flow: Flow, call: ModuleCall) -> bool:
    """Whether all layers of a block work before it goes up, and likewise in all of its kind: no head that brings up."""
    alike = [one for one in flow.trace.calls if flow.kind_of(one.path) == flow.kind_of(call.path)]
    return all(len({flow.size(node) for node in flow.layers_in(one)}) == 1 for one in alike)


def unbrought(flow: Flow, node: fx.Node) -> fx.Node:
    """Return the map that one layer or function made larger, perhaps cropped since; others as they are."""
    larger = node
    while larger not in flow.rises and not weighted(larger) and len(flow.maps.pred[larger]) == 1:
        (larger,) = flow.maps.pred[larger]
    return next(iter(flow.maps.pred[larger])) if larger in flow.rises else node


def _activated(flow: Flow, node: fx.Node) -> fx.Node:
    """Return what norms, activations and gates make of a map at once, where forward() calls each of them itself."""
    while (after := _next_form(flow, node)) is not None:
        node = after
    return node


def _next_form(flow: Flow, node: fx.Node) -> fx.Node | None:
    """Return the one map that a norm or an activation makes of a map, or its sum with what a gate leaves of it."""
    after: list[fx.Node] = list(flow.graph.succ[node])
    if len(after) == 1 and kind(after[0]) in NORMS_AND_ACTIVATIONS:
        return after[0]
    gated = {one for one in flow.maps.succ[node] if kind(one) is Operation.MULTIPLICATION}
    sums = [one for one in flow.maps.succ[node] if kind(one) is Operation.ADDITION and one not in flow.merges]
    return next((one for one in sums if gated and set(flow.maps.pred[one]) <= {node, *gated}), None)
