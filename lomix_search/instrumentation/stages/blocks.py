"""Blocks that decide nothing: one around the whole network, and those that go down and up again inside."""

import dataclasses
from collections.abc import Iterable

from torch import fx

from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.operations import weighted
from lomix_search.instrumentation.stages.sizes import grows
from lomix_search.instrumentation.trace import ModuleCall, Trace


def unenclosed(trace: Trace) -> Trace:
    """Return a trace in which a module that holds all layers of the network is the network itself.

    Args:
        trace: One forward pass.

    Returns:
        The same graph; calls of such modules have the path of the network, and kinds are told from there on.
    """
    layers = [i for i, node in enumerate(trace.graph.nodes) if weighted(node)]
    whole = [call for call in trace.calls if layers and call.first <= layers[0] and layers[-1] < call.last]
    around = {call.path for call in whole} - {""}
    if not around:
        return trace
    inmost = max(around, key=len)
    prefix, inside = trace.kinds.get(inmost, ""), f"{inmost}."
    kinds = {
        path: kind.removeprefix(prefix).removeprefix(".") if path.startswith(inside) else kind
        for path, kind in trace.kinds.items()
    }
    calls = tuple(dataclasses.replace(call, path="") if call.path in around else call for call in trace.calls)
    return dataclasses.replace(trace, calls=calls, kinds=kinds | dict.fromkeys(around, ""))


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


def _inside(flow: Flow, blocks: Iterable[ModuleCall]) -> frozenset[fx.Node]:
    """Return the nodes of some blocks, without what they return."""
    inside = {node for call in blocks for node in flow.inside(call)}
    return frozenset(inside - {node for call in blocks for _, node in call.outputs})


def _dips(flow: Flow) -> list[ModuleCall]:
    """Return the outermost module calls that go coarser than all their inputs, and back to the size of one of them.

    None that returns a coarser map too, as pyramids do.
    """
    found: list[ModuleCall] = []
    for call in flow.trace.calls:
        if call.path and not any(outer.holds(call) for outer in found):
            given = {flow.size(node) for _, node in call.inputs if node.meta.get("map") and node in flow.graph}
            made = {flow.size(node) for _, node in call.outputs if node in flow.graph}
            inside = flow.maps_in(call)
            down = {size for size in map(flow.size, inside) if all(grows(size, whole) for whole in given)}
            if given & made and down and not down & made and any(node in flow.rises for node in inside):
                found.append(call)
    return found
