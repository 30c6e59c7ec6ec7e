"""torch.export without strict mode; module calls are read from the nodes' metadata.

Such a graph does not say where in a module's arguments and results a value sits: that is read from a recorded run.
Modules that return what they are given leave no trace.
"""

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from lomix_search.instrumentation.trace.graph import ModuleCall, Trace, ValuePath, describe, tensors
from lomix_search.instrumentation.trace.lent import unwatched
from lomix_search.instrumentation.trace.record import record
from lomix_search.instrumentation.trace.twin import fresh

Frame = tuple[str, str]
"""A module's path and the key of one of its calls."""


def export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Trace with torch.export; raises what it raises where a model branches on data.

    Args:
        model: Runs in whatever mode it is in.
        args: Positional inputs.
        kwargs: Keyword inputs.

    Returns:
        A trace at the level of ATen operations, functional ones as far as torch.export makes them so.
    """
    with torch.no_grad():
        seen = {(call.path, call.index): call for call in record(model, *fresh((args, kwargs))).calls}
        with _quiet(), unwatched():
            module = torch.export.export(model, *fresh((args, kwargs)), strict=False).module(check_guards=False)
        result = module(*args, **kwargs)
    for node in module.graph.nodes:
        node.meta.update({"module": "", "writes": (), **describe(node.meta.get("val"))})
        if frames := _frames(node):
            node.meta["module"] = frames[-1][0]
    (returned,) = (node for node in module.graph.nodes if node.op == "output")
    outputs = tuple(zip((path for path, _ in tensors(result)), returned.all_input_nodes, strict=True))
    given = tuple(node for node in module.graph.nodes if node.op == "placeholder" and "shape" in node.meta)

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [leaf for _, leaf in tensors(module(*args, **kwargs))]

    return Trace(module.graph, run, tuple(_calls(module.graph, seen)), given, outputs, "export")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch.export logs and prints of a graph that it gives up: what is raised says it in one line."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before, log.disabled = log.disabled, True
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.disabled = before


def _frames(node: fx.Node) -> list[Frame]:
    """The module calls around a node, outermost first, without the model itself."""
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack", {})
    found = [(path.split("@")[0].removeprefix("L['self']").lstrip("."), key) for key, (path, _) in stack.items()]
    return [frame for frame in found if frame[0]]


def _calls(graph: fx.Graph, seen: dict[tuple[str, int], ModuleCall]) -> Iterator[ModuleCall]:
    """One call for each run of nodes that share a frame, outermost first."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    inside: dict[Frame, list[fx.Node]] = {}
    for node in graph.nodes:
        for frame in _frames(node):
            inside.setdefault(frame, []).append(node)
    counts: Counter[str] = Counter()
    found = []
    for (path, _), nodes in inside.items():
        members, first, last = set(nodes), order[nodes[0]], order[nodes[-1]] + 1
        inputs = [n for node in nodes for n in node.all_input_nodes if n not in members]
        outputs = [node for node in nodes if any(user not in members for user in node.users)]
        call = seen.get((path, counts[path]))
        if call is not None:
            given, made = _placed(call.inputs, inputs), _placed(call.outputs, outputs)
            found.append(ModuleCall(path, call.index, given, made, first, last))
        counts[path] += 1
    yield from sorted(found, key=lambda call: (call.first, call.depth))


def _placed(seen: tuple[tuple[ValuePath, fx.Node], ...], nodes: list[fx.Node]) -> tuple[tuple[ValuePath, fx.Node], ...]:
    """Give each recorded place the first value of its shape."""
    left = list(dict.fromkeys(node for node in nodes if "shape" in node.meta))
    found = []
    for place, recorded in seen:
        fitting = [node for node in left if node.meta["shape"] == recorded.meta["shape"]]
        if fitting:
            found.append((place, fitting[0]))
            left.remove(fitting[0])
    return tuple(found)
