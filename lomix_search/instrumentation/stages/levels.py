"""The trunk cut into levels, from the coarsest to that of the layer which makes the logits."""

import itertools
import math

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import channels
from lomix_search.instrumentation.stages.level_stage import last_merge, worked
from lomix_search.instrumentation.stages.operations import NORMS_AND_ACTIVATIONS, PRODUCTS, kind, weighted


def levels_of(flow: Flow) -> tuple[list[list[fx.Node]], fx.Node]:
    """Cut the trunk where it rises, up to the layer that makes the logits.

    Args:
        flow: The data flow that leads to one output.

    Returns:
        The maps of each level, coarse to fine; the last level ends in that layer, or holds it alone. And the layer.
    """
    head = _head(flow)
    return _until_logits(flow, _levels(flow, head), head)


def _head(flow: Flow) -> fx.Node:
    """Return the layer that makes the logits: the trunk's last one with weights of its own.

    Where the logits are products of two embeddings, it is the projection of one of them, or the product itself if
    something activates that after.
    """
    last = next((n for n in reversed(flow.trunk) if weighted(n) and kind(n) not in PRODUCTS), flow.output)
    after = nx.descendants(flow.graph, last)
    products = sorted((node for node in after if kind(node) in PRODUCTS), key=flow.order)
    between = [node for node in after if products and flow.order(node) < flow.order(products[0])]
    if any(last in flow.graph.pred[product] for product in products):
        return last  # even where other values are made of it too
    if not any(kind(node) in NORMS_AND_ACTIVATIONS for node in between):
        return last
    return next((node for node in reversed(flow.trunk) if node in products), flow.output)


def _levels(flow: Flow, head: fx.Node) -> list[list[fx.Node]]:
    """Cut the trunk, up to the head, where it rises. The head's own level is the last, perhaps with the head alone."""
    trunk = flow.trunk[: flow.trunk.index(head) + 1]
    levels = [[trunk[0]]]
    for before, node in itertools.pairwise(trunk):
        if node in flow.rises or flow.climbs(before, node):
            levels.append([])
        levels[-1].append(node)
    passed = [i for i in range(1, len(levels) - 1) if not any(weighted(n) or n in flow.merges for n in levels[i])]
    levels = [
        values for i, values in enumerate(levels) if i not in passed
    ]  # a level that a map only passes has no stage
    return [*(_unexpanded(flow, values, after[0]) for values, after in itertools.pairwise(levels)), levels[-1]]


def _unexpanded(flow: Flow, values: list[fx.Node], event: fx.Node) -> list[fx.Node]:
    """Leave out, after other work, the layer that makes the channels which ``event`` only lays out as positions."""
    last = next((i for i, node in enumerate(values) if not any(map(weighted, values[i + 1 :]))), 0)
    laid_out = math.prod(event.meta["shape"]) == math.prod(values[-1].meta["shape"])
    if not laid_out or last == 0 or channels(values[last]) <= channels(values[last - 1]):
        return values
    merge = last_merge(flow, values)
    done = merge < last and worked(flow, values, merge, values[last - 1])
    return values[:last] if done else values


def _until_logits(flow: Flow, levels: list[list[fx.Node]], head: fx.Node) -> tuple[list[list[fx.Node]], fx.Node]:
    """Leave out levels whose layers only enlarge the logits; return the others, and the layer that makes the logits."""
    classes, count = flow.output.meta["shape"][1], len(levels)
    while count > 1 and all(channels(n) == classes and n not in flow.merges for n in levels[count - 1]):
        count -= 1
    values = levels[count - 1]
    for i, node in reversed(list(enumerate(values))):
        if count == len(levels) or node in flow.merges or channels(node) != classes:
            break
        if weighted(node) and i and channels(values[i - 1]) > classes:
            return [*levels[: count - 1], values[: i + 1]], node
    return levels, head
