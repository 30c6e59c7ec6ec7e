"""Data flow → decoder stages: where each level of the trunk is finished, before it goes up or becomes logits."""

import dataclasses
import itertools
from collections.abc import Iterable

from torch import fx

from lomix_search.instrumentation.stages.blocks import folded, unenclosed
from lomix_search.instrumentation.stages.coarsest_stage import coarsest_stage, source_of_own_logits
from lomix_search.instrumentation.stages.cuts import Cuts
from lomix_search.instrumentation.stages.finest_stage import embedded, finest_stage
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.level_stage import (
    around,
    composite,
    first_given,
    last_merge,
    level_stage,
    own_output,
    smoothing,
    worked,
)
from lomix_search.instrumentation.stages.levels import levels_of
from lomix_search.instrumentation.stages.operations import (
    LEARNED,
    NORMS_AND_ACTIVATIONS,
    PADS_OR_CROPS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.stages.side_by_side import (
    blocks_to_one_size,
    exchanged_below,
    merged_below,
    merged_pyramid,
    mixed_with_coarser,
    projected_levels,
    projected_to_add,
)
from lomix_search.instrumentation.stages.sizes import DOUBLE, grows
from lomix_search.instrumentation.trace import ModuleCall, Trace


@dataclasses.dataclass(frozen=True, eq=False)
class Ladder:
    """What leads to some logits, cut into levels.

    Args:
        flow: The data flow.
        levels: The maps of the trunk, coarse to fine; the last level ends in ``head``.
        head: The layer that makes the logits.
    """

    flow: Flow
    levels: list[list[fx.Node]]
    head: fx.Node


def ladder_of(trace: Trace, output: fx.Node, supervised: Iterable[fx.Node] = ()) -> Ladder:
    """Return the data flow that leads to the logits, and its levels.

    Args:
        trace: One forward pass.
        output: The model's main logits.
        supervised: Maps from which the model makes logits of its own in train mode alone.

    Returns:
        What both readings of the stages start from.
    """
    flow = folded(Flow(unenclosed(trace), output, supervised=frozenset(supervised)))
    return Ladder(flow, *levels_of(flow))


def decoder_stages(trace: Trace, output: fx.Node, supervised: Iterable[fx.Node] = ()) -> list[fx.Node]:
    """Return the values at which the decoder finishes each resolution, coarse to fine; the last may be the output.

    Args:
        trace: One forward pass.
        output: The model's main logits.
        supervised: Maps from which the model makes logits of its own in train mode alone.

    Returns:
        Nodes of the trace's graph; none if nothing rises to the output.
    """
    return stages_of(ladder_of(trace, output, supervised))


def stages_of(ladder: Ladder) -> list[fx.Node]:
    """Return the stages of a ladder, as :func:`decoder_stages`."""
    flow, levels, head = ladder.flow, ladder.levels, ladder.head
    found = _of_trunk(flow, levels, head)
    projected = projected_levels(flow, levels[-1]) if len(found) < 2 else []
    return _with_finest(flow, levels[-1], head, projected) if projected else found


def _of_trunk(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> list[fx.Node]:
    """Return the stages of the trunk; a head that goes up makes a level only if there would be one otherwise."""
    if len(levels) > 2 and levels[-1] == [head] and not _peers(flow, levels) and _enlarges(flow, levels, head):
        found = _ladder(flow, levels[:-1], head)
        return found if len(found) > 1 else _ladder(flow, levels, head)
    return _ladder(flow, levels, head)


def _ladder(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> list[fx.Node]:
    """Return the stages of a trunk that is cut into levels."""
    if len(levels) < 2:
        return []
    if pyramid := merged_pyramid(flow, levels[-1]):
        return _with_finest(flow, levels[-1], head, pyramid)
    coarser, levels = mixed_with_coarser(flow, levels)
    for below in (merged_below, exchanged_below):
        coarser, levels = (coarser, levels) if coarser else below(flow, levels)
    found = [*coarser, *_below_the_finest(flow, levels, bool(coarser))]
    finest = embedded(flow, found, head) or finest_stage(flow, levels[-1], head, found)
    finest = finest and Cuts(flow, levels[-1], head).end(finest)
    finest = own_output(flow) if finest is flow.output else finest
    return [_uncut(flow, node) for node in (*found, finest) if node]


def _with_finest(flow: Flow, values: list[fx.Node], head: fx.Node, pyramid: list[fx.Node]) -> list[fx.Node]:
    """Return a pyramid with what the head is given in place of its finest map, where blocks work on it before.

    They bring each map to one size, or project what is laid side by side, which a head may take at once; on a sum
    several layers work. Likewise where the coarser maps are but projected to be added to the finest.
    """
    merge = last_merge(flow, values)
    before = [node for node in values if node is not head]
    given = [first_given(call, before[merge:]) for call, _ in around(flow, head) if call.path]
    taken = any(node and not worked(flow, before, merge, node) for node in given)
    laid = joins(values[merge])
    projected = laid and not taken and worked(flow, before, merge, before[-1])
    projected = projected or (not laid and sum(map(weighted, before[merge + 1 :])) > 1)
    summed = not laid and taken and projected_to_add(flow, pyramid)
    if not projected and not summed and not blocks_to_one_size(flow, values):
        return pyramid
    finest = finest_stage(flow, values, head, pyramid)
    coarser = [node for node in pyramid if grows(flow.size(node), flow.size(head))]
    return [*coarser, finest] if finest else pyramid


def _below_the_finest(flow: Flow, levels: list[list[fx.Node]], mixed: bool) -> list[fx.Node]:
    """Return the stages of all levels but the last: what the network itself makes logits from, else what is finished.

    Where it makes logits from all of them except the coarsest, the coarsest has no stage. A level that was ``mixed``
    with coarser maps has one.
    """
    levels = _without_lifts(flow, levels)
    own = [source_of_own_logits(flow, values) for values in levels]
    cuts = [Cuts(flow, values, after[0]) for values, after in itertools.pairwise(levels)]
    found: list[fx.Node] = []
    for i in range(0 if mixed else 1, len(levels) - 1):
        done = own[i] or cuts[i].end(level_stage(flow, levels[i], levels[i + 1][0]))
        found.append(done if own[i] or not found else _as_the_coarser(flow, done, found[-1]))
    found = _before_what_goes_up(flow, levels[0 if mixed else 1 :], found)
    bottom = None if mixed else own[0] if any(own[1:]) else coarsest_stage(flow, levels)
    return [bottom, *found] if bottom else found


def _before_what_goes_up(flow: Flow, levels: list[list[fx.Node]], stages: list[fx.Node]) -> list[fx.Node]:
    """Step back to what a module that works and goes up is given, where that is the stage before others of its kind."""
    calls = [
        {flow.kind_of(call.path): call for call, _ in around(flow, after[0]) if call.first > flow.order(values[0])}
        for values, after in itertools.pairwise(levels)
    ]
    given = [
        {name: first_given(call, values) for name, call in own.items()}
        for values, own in zip(levels, calls, strict=False)
    ]
    ends = {name for own, stage in zip(given, stages, strict=True) for name, one in own.items() if one is stage}
    found = list[fx.Node]()
    for stage, own, into in zip(stages, given, calls, strict=True):
        back = [own[name] for name, call in into.items() if name in ends and stage in flow.inside(call)]
        found.append(next((one for one in back if one and _only_normed(flow, one)), stage))
    return found


def _only_normed(flow: Flow, node: fx.Node) -> bool:
    """Whether a norm or an activation, and no layer, made a map on its level."""
    before = itertools.takewhile(lambda one: one not in flow.rises, reversed(flow.trunk[: flow.trunk.index(node) + 1]))
    made = set(map(kind, before))
    return not made.isdisjoint(NORMS_AND_ACTIVATIONS) and made.isdisjoint(LEARNED)


def _as_the_coarser(flow: Flow, node: fx.Node, coarser: fx.Node) -> fx.Node:
    """Step back over a norm and an activation to what a block returns of the kind that ends the level before."""
    blocks = [(call, made) for call in flow.trace.calls if call.path for _, made in call.outputs]
    blocks = [(call, made) for call, made in blocks if composite(flow, call)]
    kinds = {flow.kind_of(call.path) for call, made in blocks if made is coarser}
    before = node
    while kind(before) in NORMS_AND_ACTIVATIONS and len(flow.maps.pred[before]) == 1:
        if any(made is before for _, made in blocks):
            return node
        (before,) = flow.maps.pred[before]
    return before if any(made is before and flow.kind_of(call.path) in kinds for call, made in blocks) else node


def _without_lifts(flow: Flow, levels: list[list[fx.Node]]) -> list[list[fx.Node]]:
    """Leave out of each level the blocks that only prepare the next, with fewer channels, as the coarsest has them too.

    As in ``decoder[2](decoder[1](cat([up(x), skip])))``, where the coarsest level has ``decoder[0]`` alone.
    """
    blocks = [_blocks(flow, values, after[0]) for values, after in itertools.pairwise(levels)]
    if len(blocks) < 2 or len(blocks[1]) < 2:
        return levels
    kinds = [[flow.kind_of(call.path) for call in calls] for calls in blocks]
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(kinds[0][::-1], kinds[1][::-1], strict=False))
    lift = kinds[1][len(kinds[1]) - len(list(alike)) :]
    if not 0 < sum(one in kinds[1] for one in kinds[0]) < len(kinds[1]) or not lift:
        return levels
    ends = [own[-len(lift) :] == lift for own in kinds]
    lifts = [calls[-len(lift)].first if same else None for calls, same in zip(blocks, ends, strict=True)]
    kept = [[n for n in v if i is None or flow.order(n) < i] for v, i in zip(levels, lifts, strict=False)]
    if not all(kept) or any(channels(a[-1]) <= channels(b[-1]) for a, b in zip(kept[1:], levels[1:], strict=False)):
        return levels
    cuts = [Cuts(flow, values, after[0]) for values, after in itertools.pairwise(levels)]
    if any(cut.end(values[-1]) is not values[-1] for cut, values in zip(cuts, kept, strict=True)):
        return levels  # such a layer is the end of a block
    return [*kept, levels[-1]]


def _blocks(flow: Flow, values: list[fx.Node], event: fx.Node) -> list[ModuleCall]:
    """Return the outermost modules with layers that work on a level in turn, from its last merge to ``event``."""
    began = [flow.order(n) + 1 for n in values if n in flow.merges or n in flow.rises]
    smooth = [smoothing(flow, call, n) for n in values if n in flow.rises for call, _ in around(flow, n)]
    began += [flow.order(n) + 1 for n in smooth if n]
    start, stop = max(began, default=0), flow.order(event)
    found: list[ModuleCall] = []
    for call in flow.trace.calls:
        inside = start <= call.first and call.last <= stop and not any(outer.holds(call) for outer in found)
        if inside and any(layer in values for layer in flow.layers_in(call)):
            found.append(call)
    return found


def _enlarges(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> bool:
    """Whether the head alone only enlarges a level: one that is finished, or far more than one level up.

    Where nothing but a layer that goes up makes each of the other levels, the head makes one likewise.
    """
    below = levels[-2]
    if grows(flow.size(below[-1]), flow.size(head), 2 * DOUBLE):
        return True
    alike = all(list(filter(weighted, values)) == values[:1] for values in levels[1:])
    return not alike and worked(flow, below, last_merge(flow, below), below[-1])


def _peers(flow: Flow, levels: list[list[fx.Node]]) -> bool:
    """Whether what goes up to the last level is of one kind with what goes up to the two before it."""
    if len(levels) < 4:
        return False
    calls = [[call for call, _ in around(flow, values[0])] for values in levels[-3:]]
    apart = [{flow.kind_of(call.path) for call in own if sum(call in others for others in calls) == 1} for own in calls]
    return bool(set.intersection(*apart))


def _in_each_layer(flow: Flow, node: fx.Node) -> bool:
    """Whether modules of one kind do to a level before what this node does, and a layer works on what they return."""
    before = flow.trunk[: flow.trunk.index(node)] if node in flow.trunk else []
    here = list(itertools.takewhile(lambda one: one not in flow.rises, reversed(before)))
    scope = str(node.meta.get("module", ""))
    place = next((i for i, one in enumerate(here) if weighted(one)), len(here))
    alike = [one for one in here[place + 1 :] if kind(one) is kind(node) and one.meta.get("module") != scope]
    return any(flow.kind_of(str(one.meta.get("module", ""))) == flow.kind_of(scope) for one in alike)


def _uncut(flow: Flow, node: fx.Node) -> fx.Node:
    """Return what a map was before it was padded, cropped or resized a little, or coordinates were laid beside it.

    But not out of what channels were taken, nor where each layer of the level ends so.
    """
    while (
        not _in_each_layer(flow, node)
        and node in flow.maps
        and node not in flow.rises
        and len(flow.maps.pred[node]) == 1
    ):
        (source,) = flow.maps.pred[node]
        same_level = not grows(flow.size(node), flow.size(source))
        cut = kind(node) in PADS_OR_CROPS or (kind(node) is Operation.UPSAMPLE and same_level)
        cut = cut and channels(source) == channels(node) and source in node.all_input_nodes
        others = [given for given in node.all_input_nodes if given is not source]
        if not cut and not (joins(node) and others and not any(given in flow.graph for given in others)):
            break
        node = source
    return node
