"""Which of the values that a model returns is its map of logits, and what it was before axes or values were changed."""

import math
from collections.abc import Sequence

import networkx as nx
from torch import fx

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.ending import before_activation, decided
from lomix_search.instrumentation.stages.layouts import FORMS, MapLayout, layout_of, map_layout
from lomix_search.instrumentation.stages.operations import GATES, KEEPS_VALUES, Operation, joins, kind, weighted
from lomix_search.instrumentation.stages.taps import tap_of
from lomix_search.instrumentation.trace import Trace, ValuePath, sizes, spell

_SHARES = {Operation.SOFTMAX, Operation.LOG_SOFTMAX}
"""What makes the values of all classes at once."""

_CUTS = {Operation.CLAMP, Operation.SOFTMIN}
"""What makes values that are no logits and do not tell these."""

_REORDERS = {Operation.TRANSPOSE, Operation.CLONE}


def main_output(found: Trace, num_classes: int | None, title: str) -> tuple[ValuePath, fx.Node]:
    """Return the model's own logits among what it returns: the finest map that fits.

    Among several of one shape (deep supervision at full size), the one that most layers lead to. What is
    returned with its channels last, without an axis of one class, or as a table of positions × classes, counts as what
    it was before; one class out of a softmax, as all. A map larger than the inputs (an attention of all positions to
    all) is taken only where there is no other.

    Args:
        found: A trace in eval mode.
        num_classes: Channels that the logits must have; None for any.
        title: The model's class name, for messages.

    Returns:
        Where the logits sit in the returned value, and their node.

    Raises:
        StageError: nothing that is returned has the form B × C × spatial, or not with that many channels.
    """
    return _first_of_rivals(found, _finest(found, num_classes, title))[0]


def rivals(found: Trace, num_classes: int | None, title: str) -> list[tuple[ValuePath, fx.Node]]:
    """Return the other maps that could be meant as the logits: of one shape, and as many layers lead to them.

    Args:
        found: A trace in eval mode.
        num_classes: As for :func:`main_output`.
        title: The model's class name, for messages.

    Returns:
        Where each sits in the returned value, and its node.
    """
    return _first_of_rivals(found, _finest(found, num_classes, title))[1:]


def _first_of_rivals(found: Trace, maps: list[tuple[ValuePath, fx.Node]]) -> list[tuple[ValuePath, fx.Node]]:
    """Return the maps to which most layers lead, in order; without those that are made of another, as by a softmax."""
    flow = found.network()
    layers = {node: sum(map(weighted, (*nx.ancestors(flow, node), node))) for _, node in maps}
    most = [(path, node) for path, node in maps if layers[node] == max(layers.values())]
    nodes = {node for _, node in most}
    kept = {node: path for path, node in reversed(most) if not _made_of(node, nodes)}
    return [(path, node) for path, node in most if kept.get(node) == path]


def _made_of(node: fx.Node, others: set[fx.Node]) -> bool:
    """Whether a value is another one whose values, axes or size were changed without a layer."""
    while not weighted(node) and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
        if node in others:
            return True
    return False


def _finest(found: Trace, num_classes: int | None, title: str) -> list[tuple[ValuePath, fx.Node]]:
    """Return the finest maps that fit, all of one shape."""
    seen = [f"output{spell_shape(path, node)}" for path, node in found.outputs]
    real = [(path, node) for path, node in found.outputs if node.meta["dtype"].is_floating_point]  # no masks
    real = [one for path, node in real for one in unstacked(found, path, node)]
    real = [one for one in real if one[1].op != "placeholder" and not decided(one[1])] or real
    maps = [_channels_first(found, path, node) for path, node in real if len(node.meta.get("shape", ())) in (3, 4, 5)]
    maps = maps or [((*path, ("rows", 0)), before) for path, node in real if (before := _before_rows(found, node))]
    if not maps:
        raise StageError(
            f"{title} returns no map of logits (batch × classes × size); only networks that do have stages to mix.",
            seen=seen,
            hint="instrument a network whose output is a map, e.g. the segmentation model around this encoder",
        )
    first = [m for m in maps if map_layout(m[1]).form == "first"]
    if not first:
        raise _laid_otherwise(title, map_layout(maps[0][1]), seen)
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
    finest = _without_features(found, finest)
    return [m for m in finest if m[1].meta["shape"] == finest[0][1].meta["shape"]]


def _without_features(found: Trace, maps: list[tuple[ValuePath, fx.Node]]) -> list[tuple[ValuePath, fx.Node]]:
    """Leave out maps of more channels out of which others are made: features that are returned beside the logits."""
    if len({node.meta["shape"] for _, node in maps}) < 2:
        return maps
    flow = found.network()
    made_of = {node: nx.ancestors(flow, node) for _, node in maps}

    def is_feature(node: fx.Node) -> bool:
        return any(node in made_of[n] and n.meta["shape"][1] < node.meta["shape"][1] for n in made_of)

    return [(path, node) for path, node in maps if not is_feature(node)]


def _laid_otherwise(title: str, layout: MapLayout, seen: list[str]) -> StageError:
    classes, size = layout.channels, layout.size
    order = f"permute{(0, len(size) + 1, *range(1, len(size) + 1))}"
    turned = {"last": order, "tokens": f"transpose(1, 2).unflatten(2, {size})", "flat": f"unflatten(2, {size})"}
    return StageError(
        f"{title} returns its {classes} channels laid out as {FORMS[layout.form]}; logits are batch × classes × size.",
        seen=seen,
        hint=f"return logits.{turned[layout.form]} from forward(), without a softmax",
    )


def without_classes(title: str, place: ValuePath, logits: fx.Node) -> StageError:
    """Return the error for an output whose axes all are spatial."""
    shape = sizes(logits.meta["shape"])
    return StageError(
        f"{title} returns {shape}, which has no axis of classes; logits are batch × classes × size.",
        seen=f"output{spell_shape(place, logits)}",
        hint="return logits.unsqueeze(1) from forward()",
    )


def _channels_first(found: Trace, path: ValuePath, node: fx.Node) -> tuple[ValuePath, fx.Node]:
    """Return a map of logits, and how it comes out of what is returned, from before axes were moved or one dropped."""
    if (whole := _with_classes(node) or _of_several(found, node)) is not None:
        return (*path, ("dropped", 1)), whole
    last, layout = node, map_layout(node)
    while layout.form == "last" and len(last.all_input_nodes) == 1 and kind(last) in _REORDERS:
        (last,) = last.all_input_nodes
        before = layout_of(last)
        if before and (before.form, before.channels, before.size) == ("first", layout.channels, layout.size):
            return (*path, ("last", -1)), last
    if layout.form == "last" and joins(node):
        return (*path, ("last", -1)), _moved(found, node, layout)
    return path, node


def _before_rows(found: Trace, node: fx.Node) -> fx.Node | None:
    """Return the map of which a table of positions × classes was made, for all images, if a module sees it."""
    rows = node.meta.get("shape", ())
    while kind(node) in (KEEPS_VALUES | GATES) - _CUTS and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
        layout = layout_of(node)
        if (
            layout
            and layout.form == "last"
            and rows == (node.meta["shape"][0] * math.prod(layout.size), layout.channels)
        ):
            before = before_activation(_channels_first(found, (), node)[1])
            plain = map_layout(before).form == "first" and kind(before) not in _CUTS
            return before if plain and tap_of(found, before) else None
    return None


def _moved(found: Trace, node: fx.Node, layout: MapLayout) -> fx.Node:
    """Return a joint of maps with channels last as a map with channels first, which no network makes of it."""
    moved = [user for user in node.users if user.target == "movedim" and "drawn" in user.meta]
    if not moved:
        with found.graph.inserting_before(next(n for n in found.graph.nodes if n.op == "output")):
            moved = [found.graph.call_method("movedim", (node, -1, 1))]
        shape = (node.meta["shape"][0], layout.channels, *layout.size)
        laid = MapLayout("first", layout.channels, layout.size)
        moved[0].meta = {**node.meta, "shape": shape, "map": laid, "whole": None, "drawn": True}
    return moved[0]


def _with_classes(node: fx.Node) -> fx.Node | None:
    """Return the map of one class out of which a value without an axis of classes was taken; None for other values.

    Not where the value itself is read as a map with channels: then an axis was put there only to be taken away.
    """
    shape, rank, read = node.meta["shape"], len(node.meta["shape"]), bool(node.meta.get("map"))
    while len(node.all_input_nodes) == 1 and not weighted(node) and len(node.meta.get("shape", ())) == rank:
        (node,) = node.all_input_nodes
    whole = node.meta.get("shape") == (shape[0], 1, *shape[1:]) and (node.meta.get("map") or not read)
    return node if whole and layout_of(node) else None


def _of_several(found: Trace, node: fx.Node) -> fx.Node | None:
    """Return the softmax of which one class's values are a part, if a module sees what it is made of."""
    part, rank = node, len(node.meta["shape"])
    while kind(node) in KEEPS_VALUES and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
    shape = node.meta.get("shape", ())
    if kind(node) not in _SHARES or (*shape[:1], *shape[2:]) != part.meta["shape"] or len(shape) != rank + 1:
        return None
    (given,) = node.all_input_nodes
    return node if given.meta.get("shape") == shape and layout_of(node) and tap_of(found, given) else None


def without_frames(nodes: Sequence[fx.Node], logits: fx.Node) -> None:
    """Take maps as those of images where a network works on films, of one frame here, and returns that frame alone.

    Args:
        nodes: Maps B × C × 1 × space; their layouts are put right.
        logits: The map of logits B × classes × space.
    """
    node, shape = logits, logits.meta["shape"]
    while len(node.all_input_nodes) == 1 and not weighted(node) and node.meta.get("shape") == shape:
        (node,) = node.all_input_nodes
    if node.meta.get("shape") == (*shape[:2], 1, *shape[2:]) and all(n.meta["shape"][2] == 1 for n in nodes):
        for one in nodes:
            layout = map_layout(one)
            one.meta["map"] = MapLayout("framed", layout.channels, layout.size[1:])


def unstacked(found: Trace, path: ValuePath, node: fx.Node) -> list[tuple[ValuePath, fx.Node]]:
    """Return the maps that are stacked in a value along its first or second axis, or the value itself."""
    sources, axis = list(node.all_input_nodes), _stacked_along(node)
    rank = max((len(put.meta["shape"]) for put in found.inputs if layout_of(put)), default=0)
    shapes = {tuple(source.meta.get("shape", ())) for source in sources}
    if axis not in (0, 1) or len(shapes) != 1 or len(node.meta["shape"]) != rank + 1:
        return [(path, node)]
    if kind(node) is Operation.CONCATENATION:
        sources = [source.all_input_nodes[0] for source in sources]
    step = "item" if axis == 0 else "stacked"
    return [((*path, (step, i)), source) for i, source in enumerate(sources)]


def _stacked_along(node: fx.Node) -> int | None:
    """Return the axis along which a value stacks others, at once or by an unsqueeze of each; None if it does not."""
    lifted = bool(node.all_input_nodes) and all(kind(source) is Operation.UNSQUEEZE for source in node.all_input_nodes)
    if kind(node) is not Operation.STACK and not (kind(node) is Operation.CONCATENATION and lifted):
        return None
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return axis % len(node.meta["shape"]) if isinstance(axis, int) else None


def spell_shape(path: ValuePath, node: fx.Node) -> str:
    """Write a place and a shape: ``[0]: 1 × 4 × 64 × 64``."""
    return f"{spell(path)}: {sizes(node.meta.get('shape', ()))}"
