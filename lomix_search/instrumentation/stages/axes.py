"""Which axes of each value are batch, channels and space: told by some layers, and followed through changes of shape.

Convolutions and their like take B × C × space, and so tell what the axes of their values are; permutations, reshapes,
products and joints are followed from there.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from lomix_search.instrumentation.stages.axis import (
    Axes,
    Axis,
    FactorKind,
    batch,
    channels_axis,
    holds_positions,
    length,
    one_after_another,
    parts_of,
    refitted,
    regrouped,
    shape_of,
    space_axis,
    starts_with,
    unknown_axis,
)
from lomix_search.instrumentation.stages.layouts import MapLayout
from lomix_search.instrumentation.stages.operations import JOINS, PERMUTES, RESHAPES, SPATIAL, SUMS, Operation, kind
from lomix_search.instrumentation.trace import Trace

_LAYS_OUT = {Operation.CONCATENATION, Operation.SCATTER}
_PRODUCTS = {Operation.MATRIX_PRODUCT, Operation.SCALED_DOT_PRODUCT}


def read_layouts(trace: Trace) -> None:
    """Put the layout of every feature map into its node's metadata, under "map".

    Under "whole" comes the sequence of several maps out of which one was taken.

    Args:
        trace: One forward pass; the inputs are taken as B × C × space.
    """
    known: dict[fx.Node, Axes] = {}
    for node in trace.graph.nodes:
        for source, like in _like_their_peers(node, known):
            known[source], source.meta["map"] = like, _layout(like, source.meta["shape"])
        sources = [known[source] for source in node.all_input_nodes if source in known]
        axes = _laid_out(node, known) or _axes(node, sources)
        if axes is not None:
            known[node] = axes
            node.meta["map"] = _layout(axes, node.meta["shape"]) if "shape" in node.meta else None
            node.meta["whole"] = _whole(node, known)


def _like_their_peers(node: fx.Node, known: dict[fx.Node, Axes]) -> list[tuple[fx.Node, Axes]]:
    """Return axes for values that are no maps as far as known, added to, or laid beside, maps of their size."""
    if kind(node) not in JOINS | SUMS:
        return []
    found = []
    for form, at in (("first", 1), ("last", -1)):
        peers = [peer for peer in node.all_input_nodes if (layout := peer.meta.get("map")) and layout.form == form]
        for source in node.all_input_nodes:
            shape = source.meta.get("shape", ())
            alike = [peer for peer in peers if peer in known and _beside(peer.meta["shape"], at) == _beside(shape, at)]
            unknown = source not in known or (at == -1 and not source.meta.get("map"))
            if unknown and len(shape) > 2 and alike:
                axes = list(known[alike[0]])
                axes[at] = channels_axis(shape[at])
                found.append((source, tuple(axes)))
    return found


def _beside(shape: Sequence[int], at: int) -> list[int]:
    """Return a shape without the axis of channels."""
    sizes = list(shape)
    del sizes[at : at + 1 or None]
    return sizes


def _laid_out(node: fx.Node, known: dict[fx.Node, Axes]) -> Axes | None:
    """Return the axes of values that are joined one after another along their positions; None for any other value."""
    given, shape = [known.get(source) for source in node.all_input_nodes], node.meta.get("shape")
    if shape is None or len(given) < 2 or kind(node) not in _LAYS_OUT:
        return None
    values = [axes for axes in given if axes is not None and len(axes) == len(shape)]
    along = [i for i, size in enumerate(shape) if all(length(axes[i]) != size for axes in values)]
    if len(values) < len(given) or len(along) != 1 or not all(holds_positions(axes[along[0]]) for axes in values):
        return None
    joined = one_after_another([part for axes in values for part in parts_of(axes[along[0]])])
    return (*values[0][: along[0]], joined, *values[0][along[0] + 1 :]) if length(joined) == shape[along[0]] else None


def _axes(node: fx.Node, sources: list[Axes]) -> Axes | None:
    """Return the axes of a value that is made from others, or None where they cannot be told."""
    made, shape = kind(node), node.meta.get("shape")
    if shape is None:  # several values at once; the items are told apart when they are taken
        shape = node.all_input_nodes[0].meta.get("shape", ()) if made is Operation.BATCH_NORM else ()
        return _standard(shape, sources) if len(shape) > 2 else sources[0] if sources else None
    if made is Operation.BATCH_NORM and sources and (layout := _layout(sources[0], shape)) and layout.form == "first":
        return sources[0]  # frames that lie in the batch come out again
    if (node.op == "placeholder" or made in SPATIAL) and len(shape) > 2:
        return _standard(shape, sources)
    if not sources or made is Operation.EINSUM:
        return None
    if made is Operation.GRID_SAMPLE:  # channels of the map that is read, positions of the grid that says where
        return (*sources[0][:2], *sources[1][1:-1]) if len(sources) > 1 else _standard(shape, sources)
    if made in _PRODUCTS:
        return (*sources[0][:-1], sources[-1][-1]) if len(sources) > 1 and len(sources[0]) == len(shape) else None
    if made is Operation.LINEAR and len(sources[0]) == len(shape):
        return (*sources[0][:-1], channels_axis(shape[-1]))
    if made in RESHAPES:
        return regrouped(sources[0], shape)
    if made in PERMUTES and (order := _order(node)) is not None and len(order) == len(sources[0]):
        return tuple(sources[0][i] for i in order)
    same = [axes for axes in sources if shape_of(axes) == tuple(shape)]
    maps = [axes for axes in same if _layout(axes, shape)]
    return next(iter((*maps, *same)), None) or refitted(sources[0], shape)


def _standard(shape: Sequence[int], sources: list[Axes]) -> Axes:
    """Return the axes of B × C × space; an axis of several spatial factors stays what it is."""
    source = sources[0] if sources and len(sources[0]) == len(shape) else None
    axes: list[Axis] = [batch(shape[0]), channels_axis(shape[1])]
    for i, size in enumerate(shape[2:]):
        joined = source is not None and len(source[i + 2]) > 1
        kept = source[i + 2] if source is not None and joined and length(source[i + 2]) == size else None
        axes.append(kept or (unknown_axis(size) if joined else space_axis(size, i)))
    return tuple(axes)


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


def _layout(axes: Axes, shape: Sequence[int]) -> MapLayout | None:
    """Return how a map lies in these axes, or None where they are not those of a map."""
    if len(axes) < 3:
        return None
    channel = [i for i, axis in enumerate(axes) if starts_with(axis, FactorKind.CHANNELS)]
    space = [axis for i, axis in enumerate(axes[1:], 1) if i not in channel]
    factors = [factor for axis in space for factor in axis]
    order = [factor.space for factor in factors if factor.space is not None]
    if len(channel) != 1 or channel[0] not in (1, len(axes) - 1) or len(order) < len(factors) or order != sorted(order):
        return None
    if any(f.kind in (FactorKind.CHANNELS, FactorKind.UNKNOWN) or f.space in order for f in axes[0]):
        return None  # whole axes may lie in the batch (frames), parts of them (windows) may not
    joined = len(space) == 1 and len(space[0]) > 1
    if not joined and any(len(axis) > 1 for axis in space):
        return None
    size = tuple(factor.size for factor in space[0]) if joined else tuple(map(length, space))
    if channel[0] == 1:
        return MapLayout("flat" if joined else "first", shape[1], size)
    return MapLayout("tokens" if joined else "last", shape[-1], size)


def _whole(node: fx.Node, known: dict[fx.Node, Axes]) -> fx.Node | None:
    """Return the value of which a map is a part, before or after others; None for other maps."""
    layout, source = node.meta["map"], next(iter(node.all_input_nodes), None)
    if layout is None or source is None or source not in known:
        return None
    parts = [part for axis in known[source] if len(parts_of(axis)) > 1 for part in parts_of(axis)]
    while "shape" not in source.meta and source.all_input_nodes:
        source = source.all_input_nodes[0]
    return source if math.prod(layout.size) in map(length, parts) else None
