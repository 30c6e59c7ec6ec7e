"""Data flow → decoder stages: where each level of the trunk is finished, before it goes up or becomes logits."""

import itertools
import re
from collections.abc import Iterator, Sequence

from torch import fx

from lomix_search.stages.flow import Flow, grows, joins, operation, weighted
from lomix_search.trace import Call, Trace


def decoder_stages(trace: Trace, output: fx.Node) -> list[fx.Node]:
    """Return the values at which the decoder finishes each resolution, coarse to fine; the last may be the output.

    Args:
        trace: One forward pass.
        output: The model's main logits.

    Returns:
        Nodes of the trace's graph; none if nothing rises to the output.
    """
    flow = Flow(trace, output)
    head = _head(flow)
    levels = _levels(flow, head)
    if len(levels) > 2 and levels[-1] == [head] and _finished(flow, levels[-2]):
        levels.pop()  # the head only enlarges a finished level
    found = [_bottom(flow, levels)] if len(levels) > 1 else []
    found += [_settle(flow, values, levels[i][0]) for i, values in enumerate(levels[1:-1], 2)]
    if len(levels) > 1:
        found.append(_finest(flow, levels[-1], head))
    return [node for node in found if node is not None]


def _head(flow: Flow) -> fx.Node:
    """Return the layer that makes the logits: the trunk's last one with weights of its own."""
    for node in reversed(flow.trunk):
        if weighted(node) and not re.search("einsum|matmul|bmm", operation(node)):
            return node
    return flow.output


def _levels(flow: Flow, head: fx.Node) -> list[list[fx.Node]]:
    """Cut the trunk, up to the head, where it rises. The head's own level is the last, perhaps with the head alone."""
    trunk = flow.trunk[: flow.trunk.index(head) + 1]
    levels = [[trunk[0]]]
    for before, node in itertools.pairwise(trunk):
        if node in flow.rises or (grows(flow.size(before), flow.size(node)) and "pad" not in operation(node)):
            levels.append([])
        levels[-1].append(node)
    return levels


def _finished(flow: Flow, values: list[fx.Node]) -> bool:
    merge = max((i for i, node in enumerate(values) if node in flow.merges), default=0)
    return _worked(flow, values, merge, values[-1])


def _bottom(flow: Flow, levels: list[list[fx.Node]]) -> fx.Node | None:
    """Return the stage of the coarsest level, if it is one: in a plain U it is the bottleneck, which is none."""
    values, rise = levels[0], levels[1][0]
    scopes = {(_scope(node), operation(node)) for level in levels[1:] for node in level if node in flow.merges}
    late = [i for i, node in enumerate(values) if (_scope(node), operation(node)) in scopes and joins(node)]
    if late and flow.works_between(values[late[-1]], values[-1]):
        return _settle(flow, values, rise, late[-1])
    return _peer(flow, values, levels[1])


def _peer(flow: Flow, values: list[fx.Node], above: list[fx.Node]) -> fx.Node | None:
    """A coarsest map that is only resized and added to the next one is a level of a pyramid like the others."""
    merge = next((node for node in above if node in flow.merges), None)
    if merge is None or joins(merge) or any(weighted(node) for node in above[: above.index(merge) + 1]):
        return None
    last = max((flow.order(node) for node in values if weighted(node)), default=0)
    around = [call for call in flow.trace.calls if call.first <= last and flow.order(above[0]) < call.last]
    return values[-1] if all(flow.order(merge) < call.last for call in around) else None


def _scope(node: fx.Node) -> str:
    return re.sub(r"\d+", "#", node.meta.get("module", ""))


def _settle(flow: Flow, values: list[fx.Node], event: fx.Node, merge: int | None = None) -> fx.Node:
    """Return the value with which a level is finished before ``event`` takes it to the next.

    That is what the next block is given, if work was done since the last merge; where the block that goes up also
    does this level's work, the value inside it.
    """
    if merge is None:
        merge = max((i for i, node in enumerate(values) if node in flow.merges), default=0)
    for call, child in _around(flow, event):
        given = _given(call, values[merge:])
        if given is None:
            continue
        if _worked(flow, values, merge, given):
            return given
        if _works_after(flow, call, child, event):
            return _unworked(flow, values, merge, given)
    return values[-1] if _worked(flow, values, merge, values[-1]) else _unworked(flow, values, merge, values[-1])


def _around(flow: Flow, event: fx.Node) -> Iterator[tuple[Call, Call | None]]:
    """The module calls that run a node, outermost first, each with the one inside it that does."""
    order = flow.order(event)
    calls = [call for call in flow.trace.calls if call.path and call.first <= order < call.last]
    yield from itertools.zip_longest(calls, calls[1:])


def _given(call: Call, values: Sequence[fx.Node]) -> fx.Node | None:
    given = {node for _, node in call.inputs}
    return next((value for value in values if value in given), None)


def _worked(flow: Flow, values: list[fx.Node], merge: int, value: fx.Node) -> bool:
    arrived = (
        merge == 0 and values[0] not in flow.merges and any(weighted(n) for n in values[: values.index(value) + 1])
    )
    return arrived or flow.works_between(values[merge], value)


def _works_after(flow: Flow, call: Call, child: Call | None, event: fx.Node) -> bool:
    """Whether the call goes on working after the part of it that contains the event."""
    start = child.last if child else flow.order(event) + 1
    return any(weighted(node) and start <= flow.order(node) < call.last for node in flow.graph)


def _unworked(flow: Flow, values: list[fx.Node], merge: int, given: fx.Node) -> fx.Node:
    """Nothing works on the last merge before the next level: take what a branch makes of it, or what came before."""
    node = values[merge]
    if node not in flow.merges or merge == 0:
        return given
    if joins(node):
        return values[merge - 1]
    if (refined := _refined(flow, node)) is not None:
        return refined
    return node if _ends_block(flow, node, values) else values[merge - 1]


def _ends_block(flow: Flow, node: fx.Node, values: list[fx.Node]) -> bool:
    """Whether a merge is what a module returns that also made the level."""
    first = flow.order(values[0])
    return any(
        call.path and call.first <= first and any(out is node for _, out in call.outputs) for call in flow.trace.calls
    )


def _refined(flow: Flow, node: fx.Node) -> fx.Node | None:
    """Return what a module makes of a map, at the same size, beside the trunk and on the way to the output."""
    users = [call for call in flow.trace.calls if call.path and any(given is node for _, given in call.inputs)]
    for call in users:
        if any(other is not call and other.holds(call) for other in users):
            continue  # a part of a block that as a whole makes something else of the map
        for _, made in call.outputs:
            if made in flow.maps and made not in flow.trunk and flow.size(made) == flow.size(node):
                return made
    return None


def _finest(flow: Flow, values: list[fx.Node], head: fx.Node) -> fx.Node | None:
    """Return what the model's own head is given, or the output where the last block itself makes the logits."""
    values = [node for node in values if node is not head]
    if not values:
        return flow.output
    merge = max((i for i, node in enumerate(values) if node in flow.merges), default=0)
    for call, _ in _around(flow, head):
        given = _given(call, values[merge:])
        if given is not None and (_worked(flow, values, merge, given) or _summed(flow, values[merge])):
            return _block_output(flow, values[merge:], given)
    if _worked(flow, values, merge, values[-1]) or _summed(flow, values[merge]):
        return values[-1]
    if values[merge] not in flow.merges:
        return None
    return flow.output if joins(values[merge]) else _unworked(flow, values, merge, values[-1])


def _block_output(flow: Flow, values: list[fx.Node], given: fx.Node) -> fx.Node:
    """Step back over what only normalises and activates between the last block and the head."""
    values = values[: values.index(given) + 1]
    last = max((flow.order(node) for node in values if weighted(node)), default=None)
    if last is None:
        return given
    blocks = [call for call in flow.trace.calls if call.path and call.first <= last < call.last]
    made = {node for call in blocks if _composite(flow, call) for _, node in call.outputs}
    return next((value for value in reversed(values) if value in made), given)


def _composite(flow: Flow, call: Call) -> bool:
    return sum(call.first <= flow.order(node) < call.last for node in flow.maps) > 1


def _summed(flow: Flow, node: fx.Node) -> bool:
    """Whether maps of the decoder are added up here, as pyramids do."""
    return node in flow.merges and not joins(node) and not flow.takes_skip(node)
