"""Whether the coarsest level has a stage, and which: in a plain U it is the bottleneck, which does not count as one."""

import itertools

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.cuts import Cuts
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.level_stage import around, composite, last_merge, level_stage, refined
from lomix_search.instrumentation.stages.operations import (
    JOINS,
    KEEPS_VALUES,
    LEARNED,
    NORMS_AND_ACTIVATIONS,
    SUMS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.trace import ModuleCall, operation

_WORK = LEARNED | JOINS | SUMS | NORMS_AND_ACTIVATIONS
"""What makes more of a map than another one resized."""


def source_of_own_logits(flow: Flow, values: list[fx.Node]) -> fx.Node | None:
    """Return the last map of a level of which the network makes logits, unless it returns a feature map of the level.

    A map that the trunk goes on with, and that the network returns as well, is one.

    Args:
        flow: The data flow.
        values: The maps of the level.

    Returns:
        One of the maps, or what one head that makes the logits of all levels is given of it; or None.
    """
    returned = {node for _, node in flow.trace.outputs}
    own = None if returned & set(values) else next((n for n in reversed(values) if n in flow.own), None)
    return own and (_given_to_the_head(flow, own) or own)


def _given_to_the_head(flow: Flow, node: fx.Node) -> fx.Node | None:
    """Return what layers beside the trunk make of a map for the head, if the finest level has the same one."""
    whole = flow.trace.network()
    made = nx.descendants(whole, node)
    last = next((one for one in reversed(flow.trunk) if weighted(one)), flow.output)
    for head in (call for call, _ in around(flow, last)):
        calls = [call for call in flow.trace.calls if call.path == head.path and call is not head]
        given = [given for call in calls for _, given in call.inputs if given in made and given not in flow.graph]
        if same := [one for one in given if flow.size(one) == flow.size(node)]:
            return same[0]
    return None


def coarsest_stage(flow: Flow, levels: list[list[fx.Node]]) -> fx.Node | None:
    """Return the stage of the coarsest level, if it has one.

    Args:
        flow: The data flow.
        levels: The maps of all levels, coarse to fine.

    Returns:
        One of the coarsest maps, or None.
    """
    values, rise = levels[0], levels[1][0]
    scopes = {(_scope(flow, node), operation(node)) for level in levels[1:] for node in level if node in flow.merges}
    late = [i for i, node in enumerate(values) if (_scope(flow, node), operation(node)) in scopes]
    late = [i for i in late if _came_up(flow, values[i]) or not flow.risen & set(flow.maps.pred[values[i]])]
    late = [i for i in late if len(_origins(flow, values[i])) > 1]  # no map laid beside a part of itself
    late = [i for i in late if not _meet_first(flow, values[i])]  # what two encoders end in, as in siamese networks
    laid = values[late[0]] if late else None
    late = [i for i in late if not _inside_a_block(flow, values[i], levels)]
    pyramid = len(levels) == 2 or any(_is_sum(flow, node) for node in levels[1])
    if pyramid:
        late += [i for i, node in enumerate(values) if joins(node) and flow.contexts & set(flow.maps.pred[node])]
    merge = last_merge(flow, values)
    if _is_sum(flow, values[merge]) and not any(flow.takes_skip(node) for node in levels[1]):
        late.append(merge)  # it has gone up and come down again
    done = values
    if (
        late
        and not flow.works_between(values[late[-1]], values[-1])
        and _is_second_skip(flow, [values[i] for i in late])
    ):
        done = values[: late.pop()]  # it goes up at once
    if late and flow.works_between(done[late[-1]], done[-1]):
        stage = level_stage(flow, done, rise, late[-1])
        stage = (refined(flow, stage) if pyramid else None) or stage
        if not (joins(stage) and stage is done[late[-1]]):  # the block that goes up works on what is laid together
            return Cuts(flow, done[late[-1] :], rise).end(stage)
    like = _like_the_next(flow, levels)
    plain = not flow.own and any(joins(node) and flow.takes_skip(node) for node in levels[1])
    if like and plain and (laid is None or flow.order(like) < flow.order(laid)):
        like = None  # in a plain U, what a block of the decoder makes of the bottleneck alone does not count
    found = like or _peer(flow, values, levels[1]) or _going_up_alike(flow, levels)
    first = next((i for i in late if kind(values[i]) in SUMS), 0)
    skip = values[first] if found in values[:first] else rise
    return found and Cuts(flow, values, skip).end(found)  # a skip that is added as further up goes around no block


def _is_second_skip(flow: Flow, merges: list[fx.Node]) -> bool:
    """Whether what meets in the last merge is not all made of the first of its kind, where the decoder begins."""
    first = next(node for node in merges if operation(node) == operation(merges[-1]))
    begun = nx.descendants(flow.maps, first) | {first}
    return first is not merges[-1] and any(source not in begun for source in flow.maps.pred[merges[-1]])


def _is_sum(flow: Flow, node: fx.Node) -> bool:
    """Whether ways of the decoder meet in a map and are not laid beside each other."""
    return node in flow.merges and not joins(node)


def _came_up(flow: Flow, node: fx.Node) -> bool:
    """Whether one of the ways that meet in a map has just come up, as in nested U's; a second U goes down again."""
    left = [(source, False) for source in flow.maps.pred[node]]
    while left:
        source, worked_on = left.pop()
        if source in flow.rises:
            return True
        if not (worked_on and source in flow.merges) and flow.size(source) == flow.size(node):
            left += [(before, worked_on or weighted(source)) for before in flow.maps.pred[source]]
    return False


def _origins(flow: Flow, node: fx.Node) -> set[fx.Node]:
    """Return the maps that meet in one, as they were before they were cropped, resized or laid out otherwise."""
    found = set[fx.Node]()
    for source in flow.maps.pred[node]:
        while kind(source) in KEEPS_VALUES and len(flow.maps.pred[source]) == 1:
            (source,) = flow.maps.pred[source]
        found.add(source)
    return found


def _meet_first(flow: Flow, node: fx.Node) -> bool:
    """Whether ways that begin at different inputs meet in a map for the first time."""
    ways = [{source, *nx.ancestors(flow.maps, source)} for source in flow.maps.pred[node]]
    return len(ways) > 1 and not set.intersection(*ways)


def _inside_a_block(flow: Flow, node: fx.Node, levels: list[list[fx.Node]]) -> bool:
    """Whether ways are laid side by side that parted on this level, by forward() itself, unlike the skips further up.

    A skip within the level is one if a module takes it on of the kind of those that take on the other skips, unless
    layers work on all ways and the encoder lays such branches side by side too. What was pooled to one value and spread
    out again (ASPP) is laid beside as a skip is.
    """
    split = _parted_here(flow, node)
    if split is None or flow.contexts & set(flow.maps.pred[node]):
        return False
    if _all_worked(flow, node) and any(
        _all_worked(flow, one) for one in flow.maps if flow.order(one) < flow.order(split)
    ):
        return True
    above = {made for level in levels[1:] for made in level if made in flow.merges}
    kinds = {flow.kind_of(call.path) for call in flow.trace.calls for _, given in call.inputs if given in above}
    taken = [call for call in flow.trace.calls if call.path and any(given is node for _, given in call.inputs)]
    return not any(flow.kind_of(call.path) in kinds for call in taken)


def _parted_here(flow: Flow, node: fx.Node) -> fx.Node | None:
    """Return where ways parted that forward() itself lays side by side, if that is on the level of the join."""
    split = flow.parted[node]
    if not joins(node) or _scope(flow, node) or split is None or flow.size(split) != flow.size(node):
        return None
    return split


def _all_worked(flow: Flow, node: fx.Node) -> bool:
    """Whether layers work on all ways that parted on this level and are laid side by side."""
    split = _parted_here(flow, node)
    return split is not None and all(flow.works_between(split, source) for source in flow.maps.pred[node])


def _like_the_next(flow: Flow, levels: list[list[fx.Node]]) -> fx.Node | None:
    """Return what a block makes of the coarsest level, if that is of the kind of what ends the next."""
    if len(levels) < 3:
        return None
    _, above, after = levels[:3]
    stage = source_of_own_logits(flow, above) or level_stage(flow, above, after[0])
    done = above[: above.index(stage) + 1] if stage in above else [stage]
    last = next((node for node in reversed(done) if weighted(node)), None)
    blocks = [] if last is None else [call for call, _ in around(flow, last) if call.last <= flow.order(after[0])]
    blocks = [c for c in [*blocks, *_composites(flow, done)] if not set(flow.layers_in(c)) <= flow.rises]  # that work
    made = [(call, _made_below(flow, levels[0], call, flow.order(after[0]))) for call in blocks]
    found = [node for call, node in made if node is not None and composite(flow, call)]
    if not found:
        return None  # not by one layer alone
    like = next(node for _, node in made if node is not None)
    return (None if stage in above else refined(flow, like)) or like  # beside the trunk, if the next level's is


def _going_up_alike(flow: Flow, levels: list[list[fx.Node]]) -> fx.Node | None:
    """Return what a block works on the coarsest level before it goes up, as those of other levels do, step by step.

    The merge of a skip is no step. It is enough that the next level is left likewise, where a block does nothing more
    once it has gone up or other layers, the encoder's, work on the coarsest level before; or that a level without a
    skip is.
    """
    if len(levels) < 3:
        return None
    own, *others = [_ways_up(flow, values, after[0]) for values, after in itertools.pairwise(levels)]
    values, above = levels[:2]
    stage = level_stage(flow, above, levels[2][0])
    resized = above[above.index(stage) + 1 :] if stage in above else [stage]
    next_too = [way for way in own if way in others[0]]
    if _WORK.isdisjoint(map(kind, resized)) and any(own[way] or _WORK.isdisjoint(way[1]) for way in next_too):
        return values[-len(resized) - 1]
    plain = [ways for ways, above in zip(others, levels[1:], strict=False) if not flow.merges & set(above)]
    return values[-1] if any(own.keys() & ways for ways in plain) else None


def _ways_up(flow: Flow, values: list[fx.Node], rise: fx.Node) -> dict[tuple[tuple[Operation, ...], ...], bool]:
    """Return what each block does, up to the rise and after it, that works on a level and then has no layers more.

    For each, whether other layers work on the level before it.
    """
    found = dict[tuple[tuple[Operation, ...], ...], bool]()
    for call in (call for call, _ in around(flow, rise) if call.path):
        maps = flow.maps_in(call)
        up = maps.index(rise) + 1
        if values[-1] in maps and any(map(weighted, maps[: up - 1])) and not any(map(weighted, maps[up:])):
            parts = ([n for n in part if n not in flow.merges] for part in (maps[:up], maps[up:]))
            way = tuple(tuple(kind(n) for n in part if kind(n) is not Operation.FORM) for part in parts)
            found[way] = any(weighted(node) and flow.order(node) < call.first for node in values)
    return found


def _composites(flow: Flow, values: list[fx.Node]) -> list[ModuleCall]:
    """Return the blocks that return one of some values; those that return the last value first."""
    order = {node: i for i, node in enumerate(values)}
    made = [(max((order.get(out, -1) for _, out in call.outputs), default=-1), call) for call in flow.trace.calls]
    return [call for i, call in sorted(made, key=lambda one: -one[0]) if i >= 0 and call.path and composite(flow, call)]


def _made_below(flow: Flow, values: list[fx.Node], block: ModuleCall, after: int) -> fx.Node | None:
    """Return the last of some values that was made by a call of the kind of ``block``."""
    alike = [c for c in flow.trace.calls if c is not block and flow.kind_of(c.path) == flow.kind_of(block.path)]
    made = {node: call for call in alike for _, node in call.outputs}
    below = [node for node in values if node in made]
    if not below or any(call.last <= flow.order(values[0]) for call in alike):
        return None
    shared = [c for c in flow.trace.calls if c.path and c.holds(made[below[-1]]) and c.holds(block)]
    return None if any(call.last <= after for call in shared) else below[-1]


def _peer(flow: Flow, values: list[fx.Node], above: list[fx.Node]) -> fx.Node | None:
    """Return the coarsest map if it is only resized and added to the next one: then it is a level of a pyramid."""
    merge = next((node for node in above if node in flow.merges), None)
    if (
        merge is None
        or joins(merge)
        or not flow.takes_skip(merge)
        or any(weighted(node) for node in above[: above.index(merge) + 1])
    ):
        return None
    last = max((flow.order(node) for node in values if weighted(node)), default=0)
    around = [call for call in flow.trace.calls if call.first <= last and flow.order(above[0]) < call.last]
    if not all(flow.order(merge) < call.last for call in around):
        return None
    blocks = [call for call in around if call.path]
    others = [call for call in flow.trace.calls if call.path and flow.merges & set(flow.inside(call))]
    others = [call for call in others if not any(call.holds(block) or block.holds(call) for block in blocks)]
    if {flow.kind_of(call.path) for call in blocks} & {flow.kind_of(call.path) for call in others}:
        return None  # the block that merges projects it, as those of other levels do with what they are given
    blocks_work = any(map(weighted, above[above.index(merge) + 1 :])) or _is_bottleneck(flow, values[-1])
    if not blocks and blocks_work:
        return None  # a map of the encoder, and blocks that make the levels
    return refined(flow, values[-1]) or values[-1]


def _is_bottleneck(flow: Flow, node: fx.Node) -> bool:
    """Whether a block of several layers returns a map, without another size or a context: no projection, no pooling."""
    blocks = [call for call in flow.trace.calls if call.path and any(made is node for _, made in call.outputs)]
    made = [set(flow.maps_in(call)) for call in blocks]
    made = [one for one in made if sum(map(weighted, one)) > 1]
    return bool(made) and all(len(set(map(flow.size, one))) == 1 and not one & flow.contexts for one in made)


def _scope(flow: Flow, node: fx.Node) -> str:
    return flow.kind_of(str(node.meta.get("module", "")))
