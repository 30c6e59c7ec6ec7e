"""The one graph type: a torch.fx graph whose nodes know their shapes, and the module calls that made them."""

import dataclasses
import linecache
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import networkx as nx
import torch
from torch import Tensor, fx, nn

ValuePath = tuple[tuple[str, Any], ...]
"""Where a tensor sits in a nested value: ``(("item", 0), ("attr", "logits"))`` stands for ``[0].logits``."""


@dataclasses.dataclass(frozen=True)
class ModuleCall:
    """One call of one module.

    Args:
        path: Dotted name of the module; "" is the model itself.
        index: 0 for the module's first call in a forward pass that came to its end, 1 for its second, …
        inputs: The tensors it was given, each with its place among ``(args, kwargs)``.
        outputs: The tensors it returned, each with its place in the returned value.
        first: Position in the graph where the call began.
        last: Position in the graph just past the call's own nodes.
    """

    path: str
    index: int
    inputs: tuple[tuple[ValuePath, fx.Node], ...]
    outputs: tuple[tuple[ValuePath, fx.Node], ...]
    first: int
    last: int

    @property
    def depth(self) -> int:
        """Number of modules around this one; 0 for the model itself."""
        return self.path.count(".") + 1 if self.path else 0

    def holds(self, other: "ModuleCall") -> bool:
        """Whether ``other`` ran inside this call (a call holds itself)."""
        inside = self.path == "" or other.path == self.path or other.path.startswith(f"{self.path}.")
        return inside and self.first <= other.first and other.last <= self.last


@dataclasses.dataclass(frozen=True)
class Trace:
    """What one forward pass of a model did.

    Args:
        graph: Nodes in the order of execution. ``node.meta`` holds ``shape`` (of a tensor node), ``dtype``,
            ``module`` (the innermost module's path) and ``writes`` (nodes whose memory it changes).
        run: Runs the graph again on ``(args, kwargs)`` and returns the leaves of the output.
        calls: Every module call, outermost first among those that began together.
        inputs: The example's tensors.
        outputs: The tensors the model returned, each with its place in the returned value.
        backend: "fx", "export" or "record".
        skipped: Back ends that were tried before, each with the reason why its graph was not believed.
        notes: What a user should know about the trace.
        kinds: For the path of each module a word that it shares with those alike; see ``kinds.py``.
    """

    graph: fx.Graph
    run: Callable[[tuple[Any, ...], dict[str, Any]], list[Tensor]]
    calls: tuple[ModuleCall, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[tuple[ValuePath, fx.Node], ...]
    backend: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def network(self) -> nx.DiGraph:
        """Return the data flow between tensors as a networkx graph; nodes carry ``order``, ``shape`` and ``module``."""
        flow = nx.DiGraph()
        for order, node in enumerate(self.graph.nodes):
            flow.add_node(node, order=order, shape=node.meta.get("shape"), module=node.meta.get("module", ""))
            flow.add_edges_from((source, node) for source in node.all_input_nodes)
        return flow


def leaves(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Walk a nested value: lists, tuples, mappings and plain objects that hold tensors (dataclasses, ModelOutput).

    Args:
        value: Anything a module takes or returns.
        path: Where ``value`` itself sits.

    Yields:
        Each value that is not a container, with its place.
    """
    if isinstance(value, (Tensor, fx.Proxy)):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, ("item", key)))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, ("item", i)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*path, ("attr", field.name)))
    else:
        yield path, value


def tensors(value: Any) -> list[tuple[ValuePath, Tensor]]:
    """Return the tensors in a nested value, each with its place."""
    return [(path, leaf) for path, leaf in leaves(value) if isinstance(leaf, Tensor)]


def bare_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor without the class that a user gave it by ``as_subclass`` or the like, sharing its memory.

    A class that decides at the dispatcher what its tensors are (DTensor, fake tensors) is kept.
    """
    given = type(tensor)
    if given is Tensor or given is nn.Parameter or given.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def pick(value: Any, path: ValuePath) -> Any:
    """Return what sits at ``path`` in a nested value.

    A step ``("stacked", i)`` takes map i of a stacked tensor; ``("last", -1)`` puts channels that are last second;
    ``("dropped", 1)`` gives a map of one class the axis of classes that it was returned without. ``("rows", 0)`` is a
    map of which the positions of all images became rows: it is tapped before that, and cannot be picked.
    """
    for kind, key in path:
        value = _STEPS[kind](value, key)
    return value


def _rows(_value: Any, _key: Any) -> Any:
    raise LookupError("the size of a map cannot be told from its rows")


_STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda value, key: value[key],
    "attr": getattr,
    "stacked": lambda value, key: value[:, key],
    "last": lambda value, key: value.movedim(key, 1),
    "dropped": lambda value, key: value.unsqueeze(key),
    "rows": _rows,
}


def spell(path: ValuePath) -> str:
    """Write a place as Python would: ``[0].logits``."""
    form = {
        "item": "[{!r}]",
        "attr": ".{}",
        "stacked": "[:, {}]",
        "last": ".movedim({}, 1)",
        "dropped": ".unsqueeze({})",
        "rows": "",
    }
    return "".join(form[kind].format(key) for kind, key in path)


def operation(node: fx.Node) -> str:
    """Return the name of what a node does: a layer's class, a function, a method or an ATen operation."""
    if "layer" in node.meta:
        return str(node.meta["layer"])
    target = node.target
    return target if isinstance(target, str) else str(getattr(target, "_opname", getattr(target, "__name__", target)))


def describe(value: Any) -> dict[str, Any]:
    """Return the node metadata of a traced value."""
    if isinstance(value, Tensor):
        return {"shape": tuple(value.shape), "dtype": value.dtype, "device": value.device}
    return {}


def reading() -> str:
    """Say where a value of a tensor is being read: the innermost line of code that is neither torch's nor ours."""
    ours = (str(pathlib.Path(__file__).parent), str(pathlib.Path(torch.__file__).parent))
    frames = ((frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None))
    file, line = next((found for found in frames if not found[0].startswith(ours)), ("", 0))
    return f"{pathlib.Path(file).name}:{line} reads a tensor's value: {linecache.getline(file, line).strip()}"


def after(value: Any, *_changes: Any) -> Any:
    """Return ``value``; the graph holds it where an alias of ``value`` was changed in place, to say so."""
    return value


def same_steps(one: Trace, other: Trace) -> bool:
    """Whether two recorded runs did the same operations on the same values, but for numbers that are no integers."""

    def steps(found: Trace) -> Any:
        place: dict[fx.Node, int] = {node: i for i, node in enumerate(found.graph.nodes)}

        def spelt(given: Any) -> Any:
            if isinstance(given, fx.Node):
                return place[given], given.meta.get("shape")
            return float if isinstance(given, float) else str(given)

        called = [
            (node.op, node.target, torch.utils._pytree.tree_map(spelt, (node.args, node.kwargs)))
            for node in found.graph.nodes
        ]
        calls = [(call.path, call.index, call.first, call.last) for call in found.calls]
        return called, calls, [(path, place[node]) for path, node in found.outputs]

    return bool(steps(one) == steps(other))


def replay(root: nn.Module, graph: fx.Graph) -> Callable[[tuple[Any, ...], dict[str, Any]], list[Tensor]]:
    """Return a function that runs a graph whose placeholders are the tensors of ``(args, kwargs)``.

    Node by node, each value freed after its last use: no code is generated, which for thousands of nodes takes more
    memory than their values do.

    Args:
        root: Holds the modules and tensors that the graph names.
        graph: The graph.

    Returns:
        A function that returns the leaves of the output.
    """

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        with torch.no_grad():
            found = fx.Interpreter(root, graph=graph).run(*(tensor for _, tensor in tensors((args, kwargs))))
        return [leaf for _, leaf in tensors(found)]

    return run
