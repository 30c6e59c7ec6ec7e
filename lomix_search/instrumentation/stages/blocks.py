"""Blocks that go down and up again inside: what runs in them is hidden, so that one ladder of the network is left."""

import dataclasses
from collections.abc import Iterable

from torch import fx

from lomix_search.instrumentation.stages.flow import Flow, grows
from lomix_search.instrumentation.stages.operations import weighted
from lomix_search.instrumentation.trace import ModuleCall


def folded(flow: Flow) -> Flow:
    """Hide the inside of blocks that go down and up again, unless that is where the network's own ladder runs.

    The network's ladder is outside if what is left without the blocks rises as often as any block does, with skips.
    """
    blocks = _dips(flow)
    outside = dataclasses.replace(flow, hidden=flow.hidden | _inside(flow, blocks))
    outer = sum(node in outside.rises for node in outside.trunk)
    rises = flow.rises & set(flow.trunk)
    inner = max((sum(node in rises for node in flow.inside(block)) for block in blocks), default=0)
    skips = any(outside.takes_skip(node) for node in outside.trunk)
    return outside if skips and outer >= max(inner, 2) else flow


def without_contexts(flow: Flow) -> Flow:
    """Hide the inside of blocks that pool their input to several sizes and bring all of these back to one."""
    blocks = [call for call in _dips(flow) if _only_pools(flow, call)]
    made = frozenset(node for call in blocks for _, node in call.outputs)
    return dataclasses.replace(flow, hidden=flow.hidden | _inside(flow, blocks), gathered=made) if blocks else flow


def _only_pools(flow: Flow, call: ModuleCall) -> bool:
    """Whether the coarser maps in a block come from pooling its inputs directly, without a layer in between."""
    given = [node for _, node in call.inputs if node in flow.graph]
    falls = [
        n for n in flow.maps_in(call) if any(grows(flow.size(n), flow.size(source)) for source in flow.maps.pred[n])
    ]
    return bool(falls) and not any(weighted(n) or any(flow.works_between(g, n) for g in given) for n in falls)


def _inside(flow: Flow, blocks: Iterable[ModuleCall]) -> frozenset[fx.Node]:
    """Return the nodes of some blocks, without what they return."""
    inside = {node for call in blocks for node in flow.inside(call)}
    return frozenset(inside - {node for call in blocks for _, node in call.outputs})


def _dips(flow: Flow) -> list[ModuleCall]:
    """Return the outermost module calls that go coarser than all their inputs, and back to the size of one of them."""
    found: list[ModuleCall] = []
    for call in flow.trace.calls:
        if call.path and not any(outer.holds(call) for outer in found):
            given = {flow.size(node) for _, node in call.inputs if node.meta.get("map") and node in flow.graph}
            made = {flow.size(node) for _, node in call.outputs if node in flow.graph}
            if given & made and any(all(grows(flow.size(node), size) for size in given) for node in flow.maps_in(call)):
                found.append(call)
    return found
