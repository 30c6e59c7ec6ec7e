"""Which of the values that a model returns is its map of logits, and what it was before axes or values were changed."""

import math
import re

import networkx as nx
from torch import fx

from lomix_search.errors import StageError
from lomix_search.stages.flow import weighted
from lomix_search.stages.layout import FORMS, Layout, layout_of, map_layout
from lomix_search.stages.stage import Tap, tap_of
from lomix_search.trace import Path, Trace, operation, sizes, spell

_MOVED = re.compile("permute|transpose|swap(axes|dims)|move(dim|axis)|contiguous|clone", re.IGNORECASE)


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


def without_classes(title: str, place: Path, logits: fx.Node) -> StageError:
    """Return the error for an output whose axes all are spatial."""
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
    last, layout = node, map_layout(node)
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
