"""Which axes of a value are batch, channels and space, followed from layers that know through every change of shape.

An axis is a product of factors, each of one kind: ``b``, ``c``, or a spatial axis by its number. Tokens on a 7 × 9 grid
are ``((b, 2),), ((0, 7), (1, 9)), ((c, 96),)``; a window partition and its reverse only split and join factors.
Tokens of several scales in one sequence are one factor whose kind lists them, ``("0:7 1:9|0:14 1:18", 315)``, until a
part of that length is taken out again.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from lomix_search.instrumentation.stages.layouts import MapLayout
from lomix_search.instrumentation.trace import Trace, operation

_Axis = tuple[tuple[str, int], ...]
_Axes = tuple[_Axis, ...]

_SPATIAL = re.compile(r"conv|pool|interpolate|upsample|norm[123]d|batch_norm|instance_norm|pixel_(un)?shuffle", re.I)
_PERMUTE = re.compile(r"permute|transpose|swap(axes|dims)|move(dim|axis)|t|numpy_T|getattr", re.I)
_RESHAPE = re.compile(r"_?(unsafe_)?view|reshape|(un)?flatten|(un)?squeeze|Rearrange", re.I)
_LINEAR = re.compile(r".*(?<!bi)(?<!tri)linear.*|addmm|mm", re.I)
_PRODUCT = re.compile(r"r?matmul|bmm|baddbmm|.*scaled_dot_product.*", re.I)
_SAMPLE = re.compile(r"grid_sample(r(_\w+)?)?", re.I)
_UNKNOWN = re.compile(r"einsum", re.I)
_JOIN = re.compile(r"cat", re.I)
_PEERS = re.compile(r"cat|stack|i?(add|sub)_?", re.I)


def read_layouts(trace: Trace) -> None:
    """Put the layout of every feature map into its node's metadata, under "map".

    Under "whole" comes the sequence of several maps out of which one was taken.

    Args:
        trace: One forward pass; the inputs are taken as B × C × space.
    """
    known: dict[fx.Node, _Axes] = {}
    for node in trace.graph.nodes:
        for source, like in _like_their_peers(node, known):
            known[source], source.meta["map"] = like, _layout(like, source.meta["shape"])
        sources = [known[source] for source in node.all_input_nodes if source in known]
        axes = _laid_out(node, known) or _axes(node, sources)
        if axes is not None:
            known[node] = axes
            node.meta["map"] = _layout(axes, node.meta["shape"]) if "shape" in node.meta else None
            node.meta["whole"] = _whole(node, known)


def _laid_out(node: fx.Node, known: dict[fx.Node, _Axes]) -> _Axes | None:
    """The axes of several values that lie one after another along their positions; None for any other joint."""
    given, shape = [known.get(source) for source in node.all_input_nodes], node.meta.get("shape")
    if shape is None or len(given) < 2 or not _JOIN.search(operation(node)):
        return None
    values = [axes for axes in given if axes is not None and len(axes) == len(shape)]
    along = [i for i, size in enumerate(shape) if all(_length(axes[i]) != size for axes in values)]
    if len(values) < len(given) or len(along) != 1 or not all(_positions(axes[along[0]]) for axes in values):
        return None
    joined = _joined([part for axes in values for part in _parts(axes[along[0]])])
    return (*values[0][: along[0]], joined, *values[0][along[0] + 1 :]) if _length(joined) == shape[along[0]] else None


def _like_their_peers(node: fx.Node, known: dict[fx.Node, _Axes]) -> list[tuple[fx.Node, _Axes]]:
    """Values of which nothing is known but that they are added to, or laid beside, maps B × C × space of their size."""
    if not _PEERS.search(operation(node)):
        return []
    peers = [source for source in node.all_input_nodes if (layout := source.meta.get("map")) and layout.form == "first"]
    found = []
    for source in node.all_input_nodes:
        shape = source.meta.get("shape", ())
        alike = [peer for peer in peers if _beside(peer.meta["shape"]) == _beside(shape) and peer in known]
        if source not in known and len(shape) > 2 and alike:
            axes = known[alike[0]]
            found.append((source, (axes[0], (("c", shape[1]),), *axes[2:])))
    return found


def _beside(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:1], *shape[2:])


def _whole(node: fx.Node, known: dict[fx.Node, _Axes]) -> fx.Node | None:
    """The value of which a map is a part, after which others lay or which lay after others; None for other maps."""
    layout, source = node.meta["map"], next(iter(node.all_input_nodes), None)
    if layout is None or source is None or source not in known:
        return None
    parts = [part for axis in known[source] if len(_parts(axis)) > 1 for part in _parts(axis)]
    while "shape" not in source.meta and source.all_input_nodes:
        source = source.all_input_nodes[0]
    return source if math.prod(layout.size) in map(_length, parts) else None


def _positions(axis: _Axis) -> bool:
    """Whether an axis holds the positions of a map of several spatial axes, or of several maps."""
    return len(_parts(axis)) > 1 or (len(axis) > 1 and all(kind.isdigit() for kind, _ in axis))


def _joined(parts: list[_Axis]) -> _Axis:
    """One axis for several; a single one stays as it is."""
    kind = "|".join(" ".join(f"{kind}:{size}" for kind, size in axis) for axis in parts)
    return parts[0] if len(parts) == 1 else ((kind, sum(map(_length, parts))),)


def _parts(axis: _Axis) -> list[_Axis]:
    """The axes that lie one after another on an axis; most often itself alone."""
    if len(axis) != 1 or "|" not in axis[0][0]:
        return [axis]
    texts = [[factor.split(":") for factor in part.split()] for part in axis[0][0].split("|")]
    parts: list[_Axis] = [tuple((kind, int(size)) for kind, size in part) for part in texts]
    return parts if sum(map(_length, parts)) == _length(axis) else [axis]


def _cut(axis: _Axis, size: int) -> _Axis:
    """An axis cut or padded to another length: whole parts of it, where the length tells which."""
    parts = _parts(axis)
    runs = [parts[i:j] for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]
    fitting = [run for run in runs if sum(map(_length, run)) == size]
    if len(parts) > 1 and len(fitting) == 1:
        return _joined(fitting[0])
    return ((axis[0][0] if len(axis) == 1 and "|" not in axis[0][0] else "?", size),)


def _axes(node: fx.Node, sources: list[_Axes]) -> _Axes | None:
    """Return the axes of a value that is made from others, or None where they cannot be told."""
    name, shape = operation(node), node.meta.get("shape")
    if shape is None:  # several values at once; the items are told apart when they are taken
        return sources[0] if sources else None
    if (node.op == "placeholder" or _SPATIAL.search(name)) and len(shape) > 2:
        return _standard(shape, sources)
    if not sources or _UNKNOWN.search(name):
        return None
    if _SAMPLE.fullmatch(name):  # channels of the map that is read, positions of the grid that says where
        return (*sources[0][:2], *sources[1][1:-1]) if len(sources) > 1 else _standard(shape, sources)
    if _PRODUCT.fullmatch(name):
        return (*sources[0][:-1], sources[-1][-1]) if len(sources) > 1 and len(sources[0]) == len(shape) else None
    if _LINEAR.fullmatch(name) and len(sources[0]) == len(shape):
        return (*sources[0][:-1], (("c", shape[-1]),))
    if _RESHAPE.fullmatch(name):
        return _regrouped(sources[0], shape)
    if _PERMUTE.fullmatch(name) and (order := _order(node)) is not None and len(order) == len(sources[0]):
        return tuple(sources[0][i] for i in order)
    same = [axes for axes in sources if _shape(axes) == tuple(shape)]
    maps = [axes for axes in same if _layout(axes, shape)]
    return next(iter((*maps, *same)), None) or _resized(sources[0], shape)


def _standard(shape: Sequence[int], sources: list[_Axes]) -> _Axes:
    """B × C × space; an axis on which several spatial ones lie one after another stays what it is."""
    source = sources[0] if sources and len(sources[0]) == len(shape) else None
    axes: list[_Axis] = [(("b", shape[0]),), (("c", shape[1]),)]
    for i, size in enumerate(shape[2:]):
        joined = source is not None and len(source[i + 2]) > 1
        kept = source[i + 2] if source is not None and joined and _length(source[i + 2]) == size else None
        axes.append(kept or (("?" if joined else str(i), size),))
    return tuple(axes)


def _regrouped(axes: _Axes, shape: Sequence[int]) -> _Axes | None:
    """Deal the factors out to the axes of another shape of as many elements, in order, splitting where needed."""
    left = [factor for axis in axes for factor in axis if factor[1] > 1]
    found = []
    for wanted in shape:
        axis: list[tuple[str, int]] = []
        while wanted > 1:
            if not left:
                return None
            kind, size = left.pop(0)
            taken = math.gcd(wanted, size)
            if taken not in (wanted, size):
                return None
            if taken < size:
                left.insert(0, (kind, size // taken))
            axis.append((kind, taken))
            wanted //= taken
        found.append(_tidy(axis))
    return tuple(found)


def _tidy(axis: list[tuple[str, int]]) -> _Axis:
    """Join factors of one kind; channels that are moved behind a spatial factor make it finer."""
    found: list[tuple[str, int]] = []
    for kind, size in axis:
        if found and (kind == found[-1][0] or (kind == "c" and found[-1][0] not in "bc")):
            found[-1] = (found[-1][0], found[-1][1] * size)
        else:
            found.append((kind, size))
    return tuple(found)


def _order(node: fx.Node) -> tuple[int, ...] | None:
    """Return where each axis comes from: what the operation does to a tensor whose sides all differ."""
    source = node.all_input_nodes[0]
    shape = source.meta.get("shape")
    if shape is None or len(node.all_input_nodes) > 1 or node.op not in ("call_method", "call_function"):
        return None
    if node.target is getattr and node.args[1] not in ("T", "mT", "H", "mH"):  # .real, .imag, .data, .grad, …
        return None
    probe = torch.empty([i + 2 for i in range(len(shape))], device="meta")
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda _: probe)
    call = getattr(probe, node.target) if isinstance(node.target, str) else node.target
    made = call(*(args[1:] if isinstance(node.target, str) else args), **kwargs)
    return tuple(size - 2 for size in made.shape) if isinstance(made, Tensor) else None


def _resized(axes: _Axes, shape: Sequence[int]) -> _Axes | None:
    """The axes of a value that was cut, padded, joined to others, stacked or summed over one axis."""
    if len(axes) == len(shape) + 1:
        gone = [i for i in range(len(axes)) if _shape(axes[:i] + axes[i + 1 :]) == tuple(shape)]
        gone = [i for i in gone if axes[i] and axes[i][0][0] == "?"] or gone
        return axes[: gone[0]] + axes[gone[0] + 1 :] if gone else None
    if len(axes) == len(shape) - 1:
        new = [i for i in range(len(shape)) if (*shape[:i], *shape[i + 1 :]) == _shape(axes)]
        return (*axes[: new[0]], (("?", shape[new[0]]),), *axes[new[0] :]) if new else None
    if len(axes) != len(shape):
        return None
    return tuple(axis if _length(axis) == size else _cut(axis, size) for axis, size in zip(axes, shape, strict=True))


def _length(axis: _Axis) -> int:
    return math.prod(size for _, size in axis)


def _shape(axes: _Axes) -> tuple[int, ...]:
    return tuple(map(_length, axes))


def _layout(axes: _Axes, shape: Sequence[int]) -> MapLayout | None:
    """Return how a map lies in these axes, or None if this is no map."""
    if len(axes) < 3:
        return None
    channel = [i for i, axis in enumerate(axes) if axis and axis[0][0] == "c"]
    space = [axis for i, axis in enumerate(axes[1:], 1) if i not in channel]
    if len(channel) != 1 or any(not kind.isdigit() for axis in space for kind, _ in axis):
        return None
    kinds = [kind for axis in space for kind, _ in axis]
    if channel[0] not in (1, len(axes) - 1) or kinds != sorted(kinds):
        return None
    if any(kind in {*kinds, "c", "?"} for kind, _ in axes[0]):
        return None  # whole axes may lie in the batch (frames), parts of them (windows) may not
    joined = len(space) == 1 and len(space[0]) > 1
    size = tuple(size for _, size in space[0]) if joined else tuple(map(_length, space))
    if not joined and any(len(axis) > 1 for axis in space):
        return None
    if channel[0] == 1:
        return MapLayout("flat" if joined else "first", shape[1], size)
    return MapLayout("tokens" if joined else "last", shape[-1], size)
