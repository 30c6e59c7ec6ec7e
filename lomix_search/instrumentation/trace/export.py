"""torch.export without strict mode.

Such a graph does not say where in a module's arguments and results a value sits, nor of modules that return what they
are given: that is read from a recorded run, whose operations are the same.
"""

import contextlib
import difflib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn

from lomix_search.instrumentation.trace.graph import ModuleCall, Trace, after, describe, operation, tensors
from lomix_search.instrumentation.trace.lent import unwatched
from lomix_search.instrumentation.trace.record import record
from lomix_search.instrumentation.trace.twin import fresh


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
        recorded = record(model, *fresh((args, kwargs)))
        with _quiet(), unwatched():
            module = torch.export.export(model, *fresh((args, kwargs)), strict=False).module(check_guards=False)
        result = module(*args, **kwargs)
    for node in module.graph.nodes:
        node.meta.update({"module": _module_of(node), "writes": (), **describe(node.meta.get("val"))})
    (returned,) = (node for node in module.graph.nodes if node.op == "output")
    outputs = tuple(zip((path for path, _ in tensors(result)), returned.all_input_nodes, strict=True))
    given = tuple(node for node in module.graph.nodes if node.op == "placeholder" and "shape" in node.meta)

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [leaf for _, leaf in tensors(module(*args, **kwargs))]

    return Trace(module.graph, run, tuple(_calls(recorded, module.graph, given)), given, outputs, "export")


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


def _module_of(node: fx.Node) -> str:
    """Return the path of the innermost module around a node."""
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack", {})
    paths = [path.split("@")[0].removeprefix("L['self']").lstrip(".") for path, _ in stack.values()]
    return paths[-1] if paths else ""


def _calls(recorded: Trace, graph: fx.Graph, given: Sequence[fx.Node]) -> Iterator[ModuleCall]:
    """Return the recorded calls with the exported graph's values in place of the recorded ones."""
    same = _same_values(recorded, graph, given)
    order, before = {node: i for i, node in enumerate(graph.nodes)}, [0]
    for node in recorded.graph.nodes:  # for each recorded node how many exported ones lie before it
        before.append(max(before[-1], order[same[node]] + 1 if node in same else 0))
    for call in recorded.calls:
        inputs, outputs = (
            tuple((place, same[node]) for place, node in side if node in same) for side in (call.inputs, call.outputs)
        )
        yield ModuleCall(call.path, call.index, inputs, outputs, before[call.first], before[call.last])


def _same_values(recorded: Trace, graph: fx.Graph, given: Sequence[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Return the exported value for each recorded one: both graphs show nearly the same operations in one order."""
    same = dict(zip(recorded.inputs, given, strict=False))
    theirs, mine = _values(recorded.graph), _values(graph)
    match = difflib.SequenceMatcher(None, list(map(_told, theirs)), list(map(_told, mine)), autojunk=False)
    for i, j, count in match.get_matching_blocks():
        same.update(zip(theirs[i : i + count], mine[j : j + count], strict=True))
    for node in recorded.graph.nodes:
        if node.target is after and node.args[0] in same:
            same.setdefault(node, same[node.args[0]])
    return same


def _values(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op.startswith("call") and "shape" in node.meta]


def _told(node: fx.Node) -> tuple[str, tuple[int, ...]]:
    """Say by what a value is known in both graphs; one of several that an operation returns has two names."""
    name = operation(node).lstrip("_")
    return "item" if name == "getitem" else name, tuple(map(int, node.meta["shape"]))
