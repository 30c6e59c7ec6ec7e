"""From a model and an example to its stages: which output is the logits, which stages make their own."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import networkx as nx
from torch import fx, nn

from lomix_search.errors import StageError, nearest
from lomix_search.stages.detect import decoder_stages
from lomix_search.stages.flow import Flow, weighted
from lomix_search.stages.layout import FORMS, Layout, layout_of, read_layouts
from lomix_search.stages.stage import Stage, Stages, Tap, name_of, tap_of
from lomix_search.trace import Path, Trace, operation, sizes, spell, trace_modes, unwrap

_MOVED = re.compile("permute|transpose|swap(axes|dims)|move(dim|axis)|contiguous|clone", re.IGNORECASE)


def find_stages(
    model: nn.Module, example: Any, num_classes: int | None = None, names: Sequence[str] | None = None
) -> tuple[Stages, int, list[dict[str, Any]]]:
    """Find the decoder stages of a model.

    Args:
        model: Any eager network.
        example: As for :func:`lomix_search.trace.trace`.
        num_classes: Channels of the logits; None reads them from the model's output.
        names: The user's own choice, module paths; None detects them.

    Returns:
        The stages, the number of classes, and for each stage the metadata of its tensor (shape, dtype, device).

    Raises:
        TraceError: the model could not be read.
        StageError: the output is no map of logits, or fewer than two stages were found or named.
    """
    network = unwrap(model)
    title = type(network).__name__
    found, training = trace_modes(network, example)
    read_layouts(found)
    place, logits = main_output(found, num_classes, title)
    num_classes = logits.meta["shape"][1]
    nodes = detected(found, logits, training) if names is None else chosen(found, network, names)
    nodes = sorted(nodes, key=lambda node: math.prod(_layout(node).size))
    if nodes and all(len(_layout(node).size) > len(_layout(logits).size) for node in nodes):
        raise _without_classes(title, place, logits)
    taps = taps_of(found, nodes, names)
    own = own_logits(training, logits.meta["shape"], taps, place)
    stages = [_stage(found, node, tap, own.get(i)) for i, (node, tap) in enumerate(zip(nodes, taps, strict=True))]
    if len(stages) < 2:
        raise too_few(title, stages, found, logits)
    notes = [f"{backend} was not used: {reason}" for backend, reason in found.skipped]
    if (activated := before_activation(found, place, logits)) is not None:
        activation, tap, before = activated
        stages[-1] = dataclasses.replace(stages[-1], logits=tap)
        notes.append(f"{title} ends in {activation}; in train mode the last map is what comes before it")
        if before != num_classes:
            notes.append(
                f"that has {before} channels, the background among them, and what {title} returns {num_classes}"
            )
            num_classes = before
    return Stages(stages, title, found.backend, notes), num_classes, [node.meta for node in nodes]


def detected(found: Trace, logits: fx.Node, training: Trace | None) -> list[fx.Node]:
    """Return the detected stages; where no module sees a value, the nearest of its shape that one does.

    Args:
        found: A trace.
        logits: The model's main output.
        training: A trace in train mode, if there is one.

    Returns:
        Nodes that can be tapped, coarse to fine.
    """
    seen = {node for call in found.calls for _, node in (*call.outputs, *call.inputs)}
    flow = found.network()
    stages: list[fx.Node] = []
    for node in decoder_stages(found, logits, _supervised(found, logits, training)):
        reach = nx.single_source_shortest_path_length(flow.to_undirected(as_view=True), node, cutoff=8)
        near = [other for other in reach if other in seen and layout_of(other) == layout_of(node)]
        stages += [node] if node in seen else near[:1]
    return stages


def _supervised(found: Trace, logits: fx.Node, training: Trace | None) -> set[fx.Node]:
    """The maps from which a model makes logits of its own in train mode, where it returns more than in eval mode."""
    if training is None or len(training.outputs) <= len(found.outputs):
        return set()
    read_layouts(training)
    try:
        _, main = main_output(training, logits.meta["shape"][1], "")
    except StageError:
        return set()
    made, known = Flow(training, main).own, _by_place(found)
    return {known[place] for place, node in _by_place(training).items() if node in made and place in known}


def _by_place(found: Trace) -> dict[tuple[str, int, bool, Path], fx.Node]:
    """Every value that a module is given or returns, by module, call, side and place."""
    sides = [(call, back, values) for call in found.calls for back, values in enumerate((call.inputs, call.outputs))]
    return {(call.path, call.index, bool(back), at): node for call, back, values in sides for at, node in values}


def main_output(found: Trace, num_classes: int | None, title: str) -> tuple[Path, fx.Node]:
    """Return the model's own logits among what it returns: the finest map that fits.

    Among several of one shape (deep supervision at full size), the one that most of the network leads to. What is
    returned with its channels last, or without an axis of one class, counts as what it was before. A map larger than
    the inputs (an attention of all positions to all) is taken only where there is no other.

    Args:
        found: A trace in eval mode.
        num_classes: Channels that the logits must have; None for any.
        title: The model's class name, for messages.

    Returns:
        Where the logits sit in the returned value, and their node.

    Raises:
        StageError: nothing that is returned has the form B × C × spatial, or not with that many channels.
    """
    seen = [f"output{spell_shape(path, node)}" for path, node in found.outputs]
    real = [(path, node) for path, node in found.outputs if node.meta["dtype"].is_floating_point]  # no masks
    maps = [_channels_first(path, node) for path, node in real if len(node.meta.get("shape", ())) in (3, 4, 5)]
    if not maps:
        raise StageError(
            f"{title} returns no map of logits (batch × classes × size); only networks that do have stages to mix.",
            seen=seen,
            hint="instrument a network whose output is a map, e.g. the segmentation model around this encoder",
        )
    first = [m for m in maps if _layout(m[1]).form == "first"]
    if not first:
        raise _laid_otherwise(title, _layout(maps[0][1]), seen)
    fitting = [m for m in first if num_classes in (None, m[1].meta["shape"][1])]
    if not fitting:
        counts = sorted({node.meta["shape"][1] for _, node in first})
        raise StageError(
            f"{title} returns {' or '.join(map(str, counts))} channels, but num_classes={num_classes} was asked for.",
            seen=seen,
            hint=f"num_classes={counts[0]}, or build the model with {num_classes} output channels",
        )
    whole = max((math.prod(put.meta["shape"][2:]) for put in found.inputs if layout_of(put)), default=math.inf)
    fitting = [m for m in fitting if math.prod(m[1].meta["shape"][2:]) <= whole] or fitting
    size = max(math.prod(node.meta["shape"][2:]) for _, node in fitting)
    finest = [m for m in fitting if math.prod(m[1].meta["shape"][2:]) == size]
    alike = [m for m in finest if m[1].meta["shape"] == finest[0][1].meta["shape"]]
    flow = found.network()
    return max(alike, key=lambda m: len(nx.ancestors(flow, m[1]))) if len(alike) > 1 else alike[0]


def _laid_otherwise(title: str, layout: Layout, seen: list[str]) -> StageError:
    classes, size = layout.channels, layout.size
    order = f"permute{(0, len(size) + 1, *range(1, len(size) + 1))}"
    turned = {"last": order, "tokens": f"transpose(1, 2).unflatten(2, {size})", "flat": f"unflatten(2, {size})"}
    return StageError(
        f"{title} returns its {classes} channels laid out as {FORMS[layout.form]}; logits are batch × classes × size.",
        seen=seen,
        hint=f"return logits.{turned[layout.form]} from forward(), without a softmax",
    )


def _without_classes(title: str, place: Path, logits: fx.Node) -> StageError:
    shape = sizes(logits.meta["shape"])
    return StageError(
        f"{title} returns {shape}, which has no axis of classes; logits are batch × classes × size.",
        seen=f"output{spell_shape(place, logits)}",
        hint="return logits.unsqueeze(1) from forward()",
    )


def _channels_first(path: Path, node: fx.Node) -> tuple[Path, fx.Node]:
    """Return a map of logits, and how it comes out of what is returned, from before axes were moved or one dropped."""
    if (whole := _with_classes(node)) is not None:
        return (*path, ("dropped", 1)), whole
    last, layout = node, _layout(node)
    while layout.form == "last" and len(last.all_input_nodes) == 1 and _MOVED.fullmatch(operation(last)):
        (last,) = last.all_input_nodes
        before = layout_of(last)
        if before and (before.form, before.channels, before.size) == ("first", layout.channels, layout.size):
            return (*path, ("last", -1)), last
    return path, node


def _with_classes(node: fx.Node) -> fx.Node | None:
    """Return the map of one class out of which a value without an axis of classes was taken; None for other values."""
    shape, rank = node.meta["shape"], len(node.meta["shape"])
    while len(node.all_input_nodes) == 1 and not weighted(node) and len(node.meta.get("shape", ())) == rank:
        (node,) = node.all_input_nodes
    return node if node.meta.get("shape") == (shape[0], 1, *shape[1:]) and layout_of(node) else None


def before_activation(found: Trace, place: Path, output: fx.Node) -> tuple[str, Tap, int] | None:
    """Return the name of the softmax or sigmoid in which a model ends, where its input is tapped, and its channels.

    Args:
        found: A trace in eval mode.
        place: Where the model's main output is.
        output: The map of logits in it.

    Returns:
        None if the output is made of logits already, or no module sees them.
    """
    node = next(node for path, node in found.outputs if path in (place, place[:-1]))
    while not weighted(node) and len(node.all_input_nodes) == 1:
        given = node.all_input_nodes[0]
        if re.search("softmax|sigmoid", operation(node), re.IGNORECASE):
            given = given if len(given.meta["shape"]) == len(output.meta["shape"]) else output  # its classes dropped
            tap = tap_of(found, given)
            return (operation(node), tap, given.meta["shape"][1]) if tap else None
        node = given
    return None


def spell_shape(path: Path, node: fx.Node) -> str:
    """Write a place and a shape: ``[0]: 1 × 4 × 64 × 64``."""
    return f"{spell(path)}: {sizes(node.meta.get('shape', ()))}"


def chosen(found: Trace, network: nn.Module, names: Sequence[str]) -> list[fx.Node]:
    """Return the values at the places that the user names.

    Args:
        found: A trace.
        network: The user's network.
        names: As :func:`named` takes them.

    Returns:
        Nodes in the same order.

    Raises:
        StageError: a name gives no map, two give the same one, or the names are no list.
    """
    if isinstance(names, str):
        raise StageError(f'stages="{names}" is no list of names.', hint=f'stages=["{names}", …], two or more')
    nodes: dict[fx.Node, str] = {}
    for name in names:
        node = named(found, network, name)
        if node in nodes:
            raise StageError(
                f'stages=[…] names one map of {type(network).__name__} twice: "{nodes[node]}" and "{name}".',
                hint="leave one of them out",
            )
        nodes[node] = name
    return list(nodes)


def named(found: Trace, network: nn.Module, name: str) -> fx.Node:
    """Return the value at a place that the user names.

    Args:
        found: A trace.
        network: The user's network.
        name: A module path; ``in:path`` is the module's first input, ``path#2`` its third call, ``path[1]['key'].attr``
            a place in what it returns, ``in:path[0][1]`` its second argument.

    Returns:
        The node of the tensor.

    Raises:
        StageError: no such module, it did not run, or it gives no feature map.
    """
    known = [known or "." for known, _ in network.named_modules()]
    path = name.removeprefix("in:")
    while path not in known and (cut := max(map(path.rfind, ".[#"))) > 0:
        path = path[:cut]
    rest = re.fullmatch(r"(?:#(\d+))?(.*)", name.removeprefix("in:")[len(path) :])
    if path not in known or rest is None:
        path = name.removeprefix("in:")
        near = nearest(path, [k for k in known if k.count(".") <= path.count(".")][:40])
        raise StageError(f'{type(network).__name__} has no module "{path}", which stages=[…] names.', seen=near)
    calls = [c for c in found.calls if (c.path or ".") == path and c.index == int(rest[1] or 0)]
    values = [value for c in calls for value in (c.inputs if name.startswith("in:") else c.outputs)]
    maps = [node for place, node in values if layout_of(node) and rest[2] in ("", spell(place))]
    if not maps:
        raise StageError(
            f'"{name}", which stages=[…] names, gives no feature map when the model runs.',
            seen=[f"{spell(at)}: {sizes(node.meta.get('shape', ()))}".removeprefix(": ") for at, node in values]
            or "the module is never called",
            hint="name modules that return batch × channels × size tensors; print(net) lists them",
        )
    return maps[0]


def taps_of(found: Trace, nodes: Sequence[fx.Node], names: Sequence[str] | None) -> list[Tap]:
    """Return where each value is tapped.

    Args:
        found: A trace.
        nodes: The stages' values, coarse to fine.
        names: Names given by the user.

    Returns:
        One tap for each node.
    """
    order = {node: i for i, node in enumerate(found.graph.nodes)}
    since = [0, *(order[node] for node in nodes)]
    taps = [tap_of(found, node, start) for node, start in zip(nodes, since, strict=False)]
    return [tap for tap in taps if tap is not None]


def own_logits(training: Trace | None, logits: tuple[int, ...], taps: Sequence[Tap], place: Path) -> dict[int, Path]:
    """Return which stages the model itself makes logits from, and where they are in what it returns in train mode.

    Args:
        training: A trace in train mode, if there is one.
        logits: Shape of the main logits in eval mode.
        taps: The stages, coarse to fine.
        place: Where the main logits are in eval mode.

    Returns:
        Place in the returned value by stage; the finest stage always has one.
    """
    last = len(taps) - 1
    if training is None:
        return {last: place}
    flow = training.network()
    known = _by_place(training)
    values = [known.get((tap.path, tap.call, tap.side == "output", tap.place)) for tap in taps]
    maps = _maps(training, len(logits), logits[1])
    finest = {
        path: max((i for i, v in enumerate(values) if v in _sources(flow, node)), default=-1) for path, node in maps
    }
    mains = [path for path, _ in maps if path == place] or [p for p, _ in maps if finest[p] == last]
    own = {i: path for path, i in reversed(finest.items()) if 0 <= i < last}
    return own | {last: mains[0] if mains else place}


def _maps(found: Trace, rank: int, classes: int) -> list[tuple[Path, fx.Node]]:
    """Every map of logits that a model returns; a tensor in which they are stacked counts as several."""
    maps: list[tuple[Path, fx.Node]] = []
    for path, node in found.outputs:
        shape = node.meta["shape"]
        if len(shape) == rank and shape[1] == classes:
            maps.append((path, node))
        elif len(shape) == rank + 1 and shape[2] == classes:
            parts = node.all_input_nodes if len(node.all_input_nodes) == shape[1] else [node] * shape[1]
            maps += [((*path, ("stacked", i)), part) for i, part in enumerate(parts)]
    return maps


def _sources(flow: nx.DiGraph, node: fx.Node) -> set[fx.Node]:
    return {node, *nx.ancestors(flow, node)}


def _stage(found: Trace, node: fx.Node, tap: Tap, own: Path | None) -> Stage:
    layout = _layout(node)
    given = [_layout(put).size for put in found.inputs if layout_of(put)]
    whole = max((size for size in given if len(size) == len(layout.size)), default=())
    stride = tuple(a / b for a, b in zip(whole, layout.size, strict=False))
    return Stage(name_of(found, tap), layout.channels, layout.size, stride, str(tap), tap, own)


def _layout(node: fx.Node) -> Layout:
    found = layout_of(node)
    assert found is not None  # only maps become stages
    return found


def too_few(title: str, stages: Sequence[Stage], found: Trace, logits: fx.Node) -> StageError:
    """Return the error that says that there is nothing to mix, with what could be named instead.

    Args:
        title: The model's class name.
        stages: What was detected or named.
        found: A trace.
        logits: The model's main output.

    Returns:
        An error with the last value of each resolution and the line that taps them.
    """
    count = f"{len(stages)} decoder stage" if stages else "no decoder stage that was found"
    near = candidates(found, logits)
    rows = [f"{sizes(layout.size)}: {name} ({layout.channels} channels)" for name, layout in near]
    names = ", ".join(f'"{name}"' for name, _ in near)
    line = f"instrument(net, example, stages=[{names}])  # the last value of each size; leave out what is no decoder"
    return StageError(
        f"{title} has {count}; a mixture needs at least 2.",
        seen=rows or "no feature map on the way to the output",
        hint=line if len(near) > 1 else "a network whose decoder has several scales; one scale leaves nothing to mix",
    )


def candidates(found: Trace, logits: fx.Node) -> list[tuple[str, Layout]]:
    """Return the last value of each resolution that a module sees, coarse to fine, by the name that taps it."""
    flow = Flow(found, logits)
    last = {flow.size(node): node for node in flow.maps if node in flow.seen and node is not logits}
    nodes = [
        node for size, node in sorted(last.items(), key=lambda item: math.prod(item[0])) if node.op != "placeholder"
    ]
    taps = [tap_of(found, node) for node in nodes]
    return [
        (name_of(found, tap), _layout(node))
        for node, tap in zip(nodes, taps, strict=True)
        if tap is not None and tap.path
    ]
