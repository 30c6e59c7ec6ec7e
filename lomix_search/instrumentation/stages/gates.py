"""What weighs, scales or shifts maps and is no way of its own: attention values, and conditions of norms."""

from collections.abc import Iterable, Iterator

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.operations import (
    GATES,
    KEEPS_VALUES,
    NORMS_AND_ACTIVATIONS,
    Operation,
    joins,
    kind,
    weighted,
)


def gates_of(graph: nx.DiGraph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return attention values: what a sigmoid or softmax makes, until a layer with weights works on it.

    Args:
        graph: The data flow.
        nodes: Its values, in the order in which they are made.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        passed = any(p in found for p in graph.pred[node]) and not weighted(node) and not joins(node)
        product = kind(node) is Operation.MULTIPLICATION and any(p not in found for p in graph.pred[node])
        if kind(node) in GATES or (passed and not product):
            found.add(node)
    return found


def conditions(graph: nx.DiGraph) -> set[tuple[fx.Node, fx.Node]]:
    """Return the edges on which a normed map is given its scale and its shift, both made of one other value.

    Not if a layer leads to that value that leads to the map too: then it comes from the network, as a skip does.

    Args:
        graph: The data flow.

    Returns:
        From the scale to the product, and from the shift to the sum.
    """
    found = set[tuple[fx.Node, fx.Node]]()
    for node in graph:
        for product, shift in _pairs(graph, node, Operation.ADDITION):
            for normed, scale in _pairs(graph, product, Operation.MULTIPLICATION):
                made = set(_way(graph, scale)) & set(_way(graph, shift))
                if made and _is_normed(graph, normed) and not _layers(graph, made) & _layers(graph, {normed}):
                    found |= {(scale, product), (shift, node)}
    return found


def _pairs(graph: nx.DiGraph, node: fx.Node, made: Operation) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Yield both values of which an operation of one kind makes a node, each as the first once."""
    given = list(graph.pred[node])
    if kind(node) is made and len(given) == 2:
        yield from (tuple(given), tuple(given[::-1]))


def _way(graph: nx.DiGraph, node: fx.Node) -> Iterator[fx.Node]:
    """Yield a value, and back from it what it alone is made of."""
    yield node
    while len(graph.pred[node]) == 1:
        (node,) = graph.pred[node]
        yield node


def _is_normed(graph: nx.DiGraph, node: fx.Node) -> bool:
    while kind(node) in KEEPS_VALUES and len(graph.pred[node]) == 1:
        (node,) = graph.pred[node]
    return kind(node) in NORMS_AND_ACTIVATIONS - {Operation.ACTIVATION}


def _layers(graph: nx.DiGraph, nodes: set[fx.Node]) -> set[fx.Node]:
    return {one for node in nodes for one in (node, *nx.ancestors(graph, node)) if weighted(one)}
