"""Which value is the finest stage: what the network's own head is given, or the output itself."""

import itertools
from collections.abc import Hashable

from torch import fx

from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.level_stage import around, composite, first_given, last_merge, unworked, worked
from lomix_search.instrumentation.stages.operations import (
    KEEPS_VALUES,
    NORMS_AND_ACTIVATIONS,
    PRODUCTS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.stages.side_by_side import unresized
from lomix_search.instrumentation.trace import ModuleCall


def embedded(flow: Flow, coarser: list[fx.Node], head: fx.Node) -> fx.Node | None:
    """Return the embedding of the positions of which logits are products, if a module returns it beside all stages."""
    if not any(kind(node) in PRODUCTS for node in flow.trunk[flow.trunk.index(head) + 1 :]):
        return None
    returned = [{node for _, node in call.outputs} for call in flow.trace.calls if call.path]
    return head if coarser and any({*coarser, head} <= nodes for nodes in returned) else None


def finest_stage(flow: Flow, values: list[fx.Node], head: fx.Node, coarser: list[fx.Node]) -> fx.Node | None:
    """Return what the model's own head is given, or the output where the last block itself makes the logits."""
    if (added := _added(flow, values, head)) is not None:
        if _returned(flow, added):  # refined logits: the first ones have a head of their own
            return finest_stage(flow, values[: values.index(added) + 1], added, coarser)
        return flow.output  # the head is the last layer of a residual block
    values = [node for node in values if node is not head]
    while values and _side_logits(flow, values[-1]):
        values.pop()
        made = next((i for i, node in reversed(list(enumerate(values))) if kind(node) not in KEEPS_VALUES), 0)
        if values and weighted(values[made]) and channels(values[made]) <= channels(flow.output):
            return finest_stage(flow, values[: made + 1], values[made], coarser)
    if not values:
        return flow.output
    merge = last_merge(flow, values)
    blocks = [call for call in flow.trace.calls if any(made in coarser for _, made in call.outputs)]
    blocks = [call for call in blocks if not call.first <= flow.order(head) < call.last]  # what returns all of them
    looks = set[Hashable]().union(*(_looks(flow, block) for block in blocks))
    for call, _ in around(flow, head):
        given = first_given(call, values[merge:])
        whole = call.path and call.first <= flow.order(values[0])  # it goes up too
        first = not worked(flow, values, merge, given) if given is not None else whole
        if _looks(flow, call) & looks and (first or _as_many(flow, call, blocks)):
            # a block of the kind and with the layers of another level's block
            return _as_others(call, blocks, coarser, values) or _own_logits(flow, call, head)
        if given is not None and _only_arrived(flow, values, given) and _work_after_rising(flow, coarser):
            continue  # what the head works on before the logits is this level's
        if given is not None and (worked(flow, values, merge, given) or _summed(flow, values[merge])):
            return flow.output if _is_block(flow, call, values, given) else _block_output(flow, values[merge:], given)
    if worked(flow, values, merge, values[-1]) or _summed(flow, values[merge]):
        later = list(reversed(values[merge + 1 :]))
        made = next((i for i, node in enumerate(later) if weighted(node)), len(later))
        return next((node for node in (values[-1], *later[: made + 1]) if node in flow.seen), values[-1])
    if values[merge] not in flow.merges:
        return None
    if joins(values[merge]) and not flow.takes_skip(values[merge]):  # side outputs side by side
        return _beside(flow, values[merge], coarser) or values[-1]
    if joins(values[merge]):
        before = values[merge - 1] if coarser and worked(flow, values, 0, values[merge - 1]) else None
        if before and _laid_beside(flow, coarser[-1]):
            return before
        likewise = bool(coarser) and coarser[-1] in flow.merges and joins(coarser[-1])  # as its other levels end
        if flow.own or likewise:
            return values[-1]  # a network with heads of its own has one here
        finished = any(kind(node) in NORMS_AND_ACTIVATIONS for node in values[:merge])
        return before if before and finished else flow.output
    return unworked(flow, values, merge, values[-1])


def _only_arrived(flow: Flow, values: list[fx.Node], given: fx.Node) -> bool:
    """Whether a layer goes up to a level, and all other layers of it work on what the head is given."""
    first, *later = [node for node in values if weighted(node) or node in flow.merges] or values
    before = set(values[: values.index(given) + 1])
    return first is values[0] and first in flow.rises and bool(later) and before.isdisjoint(later)


def _work_after_rising(flow: Flow, stages: list[fx.Node]) -> bool:
    """Whether a layer works on each level below some stages, beside that which goes up to it."""
    befores = [flow.trunk[: flow.trunk.index(stage) + 1] for stage in stages if stage in flow.trunk]
    own = [itertools.takewhile(lambda node: node not in flow.rises, reversed(before)) for before in befores]
    return bool(own) and all(any(map(weighted, nodes)) for nodes in own)


def _beside(flow: Flow, join: fx.Node, coarser: list[fx.Node]) -> fx.Node | None:
    """Return the map that is laid beside the coarser stages themselves, brought to its size; None for other joins."""
    sides = [unresized(flow, node) or {node} for node in flow.maps.pred[join]]
    own: list[fx.Node] = [node for node in flow.maps.pred[join] if node not in flow.rises]
    if not coarser or len(own) != 1 or not any(coarser[-1] in side for side in sides):
        return None
    node = own[0]
    while not weighted(node) and len(flow.maps.pred[node]) == 1 and node not in flow.seen:
        (node,) = flow.maps.pred[node]
    return node


def _as_others(
    call: ModuleCall, blocks: list[ModuleCall], stages: list[fx.Node], values: list[fx.Node]
) -> fx.Node | None:
    """Return the map that a block returns beside the logits, where other blocks return the stages of their levels."""
    places = {place for block in blocks for place, made in block.outputs if made in stages}
    return next((made for place, made in call.outputs if place in places and made in values), None)


def _as_many(flow: Flow, call: ModuleCall, blocks: list[ModuleCall]) -> bool:
    """Whether a block is the last of as many on its level, two or more, as one like it, which ends a coarser level."""
    rises = [flow.order(node) for node in flow.trunk if node in flow.rises]

    def count(block: ModuleCall) -> int:
        began = max((order for order in rises if order < block.first), default=0)
        beside = [c for c in flow.trace.calls if began < c.first <= block.first and c.depth == block.depth]
        return sum(len(flow.layers_in(c)) > 1 for c in beside)

    alike = [block for block in blocks if _looks(flow, block) & _looks(flow, call)]
    return len(flow.layers_in(call)) > 1 and any(count(call) == count(block) > 1 for block in alike)


def _own_logits(flow: Flow, call: ModuleCall, head: fx.Node) -> fx.Node:
    """Return the output, or what a block makes of it where the logits of other decoders are laid beside its own."""
    after = flow.trunk[flow.trunk.index(head) :]
    made = [node for _, node in call.outputs if node in after]
    if not made or not any(joins(node) for node in after[after.index(made[-1]) + 1 :]):
        return flow.output
    return made[-1]


def _looks(flow: Flow, call: ModuleCall) -> set[Hashable]:
    """Return how blocks of two levels may be alike: in kind and number of layers, or in what they do step by step."""
    made = flow.maps_in(call)
    layers = sum(map(weighted, made))
    steps = {tuple(map(kind, made))} if layers > 1 else set[Hashable]()
    return {(flow.kind_of(call.path), len(flow.layers_in(call))), *steps}


def _laid_beside(flow: Flow, stage: fx.Node) -> bool:
    """Whether a skip is laid beside a stage before it goes up."""
    after = flow.trunk[flow.trunk.index(stage) + 1 :] if stage in flow.trunk else []
    return any(
        node in flow.merges and joins(node) for node in itertools.takewhile(lambda n: n not in flow.rises, after)
    )


def _added(flow: Flow, values: list[fx.Node], head: fx.Node) -> fx.Node | None:
    """Return the map of the head's level that is added, or a part of it, to what the head makes, if there is one."""
    after = flow.trunk[flow.trunk.index(head) + 1 :] if head in flow.trunk else []
    given = [source for node in after if kind(node) is Operation.ADDITION for source in flow.graph.pred[node]]
    wholes = {source: _whole(flow, source) for source in given if source not in after}
    added = {whole for part, whole in wholes.items() if channels(whole) > channels(part)}
    return next((node for node in values if node is not head and (node in given or node in added)), None)


def _whole(flow: Flow, node: fx.Node) -> fx.Node:
    """Return the map of which a map is a part, as in couplings."""
    while kind(node) in KEEPS_VALUES and len(flow.maps.pred.get(node, ())) == 1:
        (node,) = flow.maps.pred[node]
    return node


def _returned(flow: Flow, node: fx.Node) -> bool:
    """Whether the network returns a map, or an activated or resized form of it, beside its main output."""
    for _, form in flow.trace.outputs:
        while form is not node and len(form.all_input_nodes) == 1 and not weighted(form):
            form = form.all_input_nodes[0]
        if form is node:
            return True
    return False


def _is_block(flow: Flow, call: ModuleCall, values: list[fx.Node], given: fx.Node) -> bool:
    """Whether a block makes the logits, and no head: it has three layers or more, and more than all before it here.

    It also stands in one sequence with the module from which it gets its input.
    """
    makers = [c for c in flow.trace.calls if any(made is given for _, made in c.outputs)]
    layers = sum(layer in flow.trunk for layer in flow.layers_in(call))
    many = layers > 2 and layers > sum(map(weighted, values[: values.index(given) + 1]))
    return many and any(flow.kind_of(maker.path) == flow.kind_of(call.path) for maker in makers)


def _side_logits(flow: Flow, node: fx.Node) -> bool:
    """Whether nothing but logits of several levels are laid beside each other here."""
    classes = flow.output.meta["shape"][1]
    shapes = [source.meta.get("shape", ()) for source in flow.graph.pred[node]]
    return joins(node) and len(shapes) > 1 and all(len(shape) > 2 and shape[1] <= classes for shape in shapes)


def _block_output(flow: Flow, values: list[fx.Node], given: fx.Node) -> fx.Node:
    """Step back over what only normalises and activates between the last block and the head."""
    values = values[: values.index(given) + 1]
    last = next(node for node in values if not flow.works_between(node, given))
    made = {node for call, _ in around(flow, last) if composite(flow, call) for _, node in call.outputs}
    return next((value for value in reversed(values) if value in made), given)


def _summed(flow: Flow, node: fx.Node) -> bool:
    """Whether maps of the decoder are added up here, as pyramids do."""
    return node in flow.merges and not joins(node) and not flow.takes_skip(node)
