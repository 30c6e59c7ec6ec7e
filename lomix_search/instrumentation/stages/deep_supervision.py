"""What train mode tells: where a model itself makes logits of several stages."""

from collections.abc import Sequence

import networkx as nx
from torch import fx

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.main_output import main_output, unstacked
from lomix_search.instrumentation.stages.taps import SIDES, Tap, TapPlace, call_values
from lomix_search.instrumentation.trace import Trace, ValuePath


def supervised_maps(found: Trace, logits: fx.Node, training: Trace | None) -> set[fx.Node]:
    """Return the maps from which a model makes logits in train mode alone, where it returns more than in eval mode."""
    if training is None or len(training.outputs) <= len(found.outputs):
        return set()
    main = _main(training, logits.meta["shape"][1])
    if main is None:
        return set()
    made, known = Flow(training, main[1]).own, _by_place(found)
    return {known[place] for place, node in _by_place(training).items() if node in made and place in known}


def places_in_both(found: Trace, training: Trace | None) -> set[TapPlace]:
    """Return the places at which there is a map of the same shape in both modes; the batch may differ.

    Args:
        found: A trace in eval mode.
        training: A trace in train mode, if there is one.
    """
    known = {} if training is None else _by_place(training)
    return {
        place
        for place, node in _by_place(found).items()
        if place in known and known[place].meta.get("shape", ())[1:] == node.meta.get("shape", ())[1:]
    }


def own_logits(
    training: Trace | None, logits: tuple[int, ...], taps: Sequence[Tap], place: ValuePath
) -> dict[int, ValuePath]:
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
    tapped = [known.get((tap.path, tap.call, tap.side, tap.place)) for tap in taps]
    maps = _maps(training, len(logits), logits[1])
    finest = {
        path: max((i for i, v in enumerate(tapped) if v in _sources(flow, node)), default=-1) for path, node in maps
    }
    own = {i: path for path, i in reversed(finest.items()) if 0 <= i < last}
    return own | {last: _main_place(training, logits[1], [p for p, _ in maps if finest[p] == last], place)}


def _main_place(training: Trace, classes: int, made: Sequence[ValuePath], place: ValuePath) -> ValuePath:
    """Say where the main logits are in train mode: made of the finest stage, or else at the place of eval mode."""
    if place in made or (not made and place[:1] in [path[:1] for path, _ in training.outputs]):
        return place
    main = _main(training, classes)
    found = place if main is None else main[0]
    return found if found in made or not made else made[0]


def _main(training: Trace, classes: int) -> tuple[ValuePath, fx.Node] | None:
    read_layouts(training)
    try:
        return main_output(training, classes, "")
    except StageError:
        return None


def _maps(found: Trace, rank: int, classes: int) -> list[tuple[ValuePath, fx.Node]]:
    """Return every map of logits that a model returns; a tensor in which they are stacked counts as several."""
    maps: list[tuple[ValuePath, fx.Node]] = []
    for path, node in (one for output in found.outputs for one in unstacked(found, *output)):
        shape = node.meta["shape"]
        if len(shape) == rank and shape[1] == classes:
            maps.append((path, node))
        elif len(shape) == rank + 1 and shape[2] == classes:
            parts = node.all_input_nodes if len(node.all_input_nodes) == shape[1] else [node] * shape[1]
            maps += [((*path, ("stacked", i)), part) for i, part in enumerate(parts)]
    return maps


def _sources(flow: nx.DiGraph, node: fx.Node) -> set[fx.Node]:
    return {node, *nx.ancestors(flow, node)}


def _by_place(found: Trace) -> dict[TapPlace, fx.Node]:
    """Return every value that a module is given or returns, by its place."""
    return {
        (call.path, call.index, side, at): node
        for call in found.calls
        for side in SIDES
        for at, node in call_values(call, side)
    }
