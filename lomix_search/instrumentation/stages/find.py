"""From a model and an example to its stages."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import networkx as nx
from torch import fx, nn

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.by_name import maps_by_name
from lomix_search.instrumentation.stages.decoder import Ladder, ladder_of, stages_of
from lomix_search.instrumentation.stages.deep_supervision import own_logits, places_in_both, supervised_maps
from lomix_search.instrumentation.stages.ending import decided, ending_of
from lomix_search.instrumentation.stages.layouts import layout_of, map_layout
from lomix_search.instrumentation.stages.main_output import (
    main_output,
    rivals,
    spell_shape,
    without_classes,
    without_frames,
)
from lomix_search.instrumentation.stages.named_maps import named_map, rival_notes, too_few
from lomix_search.instrumentation.stages.operations import weighted
from lomix_search.instrumentation.stages.read_logits import CLAMP
from lomix_search.instrumentation.stages.returned_logits import ending_in_train_mode, logits_tap, returned_logits
from lomix_search.instrumentation.stages.stage import ReturnedLogits, Stage, Stages
from lomix_search.instrumentation.stages.sure import Opinion, opinion, second_reading
from lomix_search.instrumentation.stages.taps import Tap, tap_name, tap_of
from lomix_search.instrumentation.trace import Trace, ValuePath, trace_modes, unwrap


@dataclasses.dataclass(frozen=True)
class FoundStages:
    """What is needed to put heads on a network.

    Args:
        stages: Coarse to fine.
        num_classes: Channels of the logits.
        tensors: For each stage ``shape``, ``dtype`` and ``device`` of its tensor.
        trace: The data flow in eval mode, which can be drawn and not be run.
    """

    stages: Stages
    num_classes: int
    tensors: tuple[dict[str, Any], ...]
    trace: Trace


def find_stages(
    model: nn.Module, example: Any, num_classes: int | None = None, names: Sequence[str] | None = None
) -> FoundStages:
    """Find the decoder stages of a model.

    Args:
        model: Any eager network.
        example: As for :func:`lomix_search.instrumentation.trace.trace`.
        num_classes: Channels of the logits; None reads them from the model's output.
        names: The user's own choice, module paths; None detects them.

    Returns:
        The stages, the number of classes, and what is known of each stage's tensor.

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
    ladder = ladder_of(found, logits, supervised_maps(found, logits, training)) if names is None else None
    chosen, other, share = _read_twice(found, ladder) if ladder else ([], [], 0.0)
    nodes = seen_forms(found, chosen) if ladder else maps_by_name(found, network, names or ())
    nodes = sorted(nodes, key=lambda node: math.prod(map_layout(node).size))
    if _all_larger(nodes, logits):
        without_frames(nodes, logits)
    if _all_larger(nodes, logits):
        raise without_classes(title, place, logits)
    taps = taps_of(found, nodes, training)
    own = own_logits(training, logits.meta["shape"], taps, place)
    stages = [
        _stage(found, node, tap, own.get(i), logits) for i, (node, tap) in enumerate(zip(nodes, taps, strict=True))
    ]
    if len(stages) < 2:
        raise too_few(title, [stage.name for stage in stages], found, logits)
    notes = [f"{backend} was not used: {reason}" for backend, reason in found.skipped]
    returned = returned_logits(network, example, found, place, logits)
    stages[-1], num_classes, said = _with_logits(stages[-1], network, example, (found, training), returned, logits)
    notes += said
    notes += rival_notes(title, found, [(place, logits), *rivals(found, logits.meta["shape"][1], title)])
    for stage in stages:
        if stage.own is None and num_classes % stage.parts:
            raise StageError(
                f'stage "{stage.name}" of {title} has {stage.parts} maps for each image; a head makes {num_classes} '
                "classes of one.",
                hint="name the others in stages=[…]",
            )
    return FoundStages(
        Stages(stages, title, found.backend, returned, notes, _opinion(found, nodes, other, share) if ladder else None),
        num_classes,
        tuple(node.meta for node in nodes),
        found,
    )


def _all_larger(nodes: Sequence[fx.Node], logits: fx.Node) -> bool:
    """Whether each of some maps has more axes of space than the logits."""
    return bool(nodes) and all(len(map_layout(node).size) > len(map_layout(logits).size) for node in nodes)


def _read_twice(found: Trace, ladder: Ladder) -> tuple[list[fx.Node], list[fx.Node], float]:
    """Return the stages, those of the other reading, and the log of the share that the scores give the stages."""
    rules = stages_of(ladder)
    second = second_reading(ladder, rules)
    if second.is_taken and len(seen_forms(found, second.nodes)) == len(second.nodes):
        return list(second.nodes), rules, second.own
    return rules, list(second.nodes), second.share


def _opinion(found: Trace, nodes: Sequence[fx.Node], second: Sequence[fx.Node], share: float) -> Opinion:
    """Compare the stages with the other reading, of which the taps are named."""
    other = seen_forms(found, second)
    taps = taps_of(found, other, None)
    return opinion(nodes, other, [named_map(found, *one) for one in zip(other, taps, strict=False)], share)


def _with_logits(
    finest: Stage,
    network: nn.Module,
    example: Any,
    traces: tuple[Trace, Trace | None],
    returned: ReturnedLogits,
    logits: fx.Node,
) -> tuple[Stage, int, list[str]]:
    """Return the finest stage with what its logits in train mode are, their channels, and what to say of it."""
    (found, training), place = traces, returned.place
    title, classes, ending = type(network).__name__, logits.meta["shape"][1], ending_of(found, place, logits)
    tap, before = (None, classes) if ending is None else logits_tap(found, ending, logits)
    if tap is None and decided(logits):
        raise StageError(
            f"{title} returns decisions, through which nothing can be trained; a segmentation network returns logits.",
            seen=f"output{spell_shape(place, logits)}",
            hint="return the logits from forward(), and decide outside",
        )
    if place[-1:] == (("rows", 0),):
        said = f"{title} returns positions × classes; in train mode the last map is what these are made of"
        return dataclasses.replace(finest, logits=returned.tap), classes, [said]
    if ending is None:
        return finest, classes, []
    ends = (ending.kind if ending.kind == CLAMP else "") if tap else ""
    if tap is None:
        ends = ending_in_train_mode(network, example, training, found, finest.own or ()) and returned.ends
    notes = [f"{title} ends in {ending.name}; in train mode the last map is what comes before it"]
    if before != classes:
        notes.append(f"that has {before} channels, the background among them, and what {title} returns {classes}")
    return dataclasses.replace(finest, logits=tap, ends=ends), before, notes


def seen_forms(found: Trace, nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """Return values as they are; where no module sees one, the nearest form of it, of its shape, that one does.

    A form is what is made of a map alone, without a layer, as by an activation or another order of axes.

    Args:
        found: A trace.
        nodes: Values of it, coarse to fine.

    Returns:
        Nodes that can be tapped.
    """
    seen = {node for call in found.calls for _, node in (*call.outputs, *call.inputs)}
    order = {node: i for i, node in enumerate(found.graph.nodes)}
    whole = found.network()
    forms = [(n.all_input_nodes[0], n) for n in whole if len(n.all_input_nodes) == 1 and not weighted(n)]
    flow = nx.Graph(forms)
    flow.add_nodes_from(whole)
    stages: list[fx.Node] = []
    for node in nodes:
        if node in seen:
            stages.append(node)
            continue
        steps = nx.single_source_shortest_path_length(flow, node, cutoff=8)
        near = [other for other in steps if other in seen and layout_of(other) == layout_of(node)]
        near.sort(key=lambda other: (steps[other], order[other]))  # of several as near, always the same one
        stages += near[:1]
    return stages


def taps_of(found: Trace, nodes: Sequence[fx.Node], training: Trace | None) -> list[Tap]:
    """Return where each value is tapped, in both modes if there is such a place.

    Args:
        found: A trace.
        nodes: The stages' values, coarse to fine.
        training: A trace in train mode, if there is one.

    Returns:
        One tap for each node.
    """
    both = places_in_both(found, training)
    order = {node: i for i, node in enumerate(found.graph.nodes)}
    since = [0, *(order[node] for node in nodes)]
    taps = [tap_of(found, node, start, both) for node, start in zip(nodes, since, strict=False)]
    return [tap for tap in taps if tap is not None]


def _stage(found: Trace, node: fx.Node, tap: Tap, own: ValuePath | None, logits: fx.Node) -> Stage:
    layout = map_layout(node)
    given = [map_layout(put).size for put in found.inputs if layout_of(put)]
    whole = max((size for size in given if len(size) == len(layout.size)), default=())
    stride = tuple(a / b for a, b in zip(whole, layout.size, strict=False))
    shape, whole_batch = node.meta["shape"], logits.meta["shape"]
    parts = shape[0] // whole_batch[0] if len(shape) == len(whole_batch) and tap.layout is None else 1
    return Stage(tap_name(found, tap), layout.channels, layout.size, stride, str(tap), tap, own, parts=max(1, parts))
