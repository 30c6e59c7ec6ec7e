"""What lies like a map of a level and is none: gates, spectra, slices, contexts, conditions, coarser logits."""

import math
from collections.abc import Iterable, Iterator

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.layouts import channels, map_size
from lomix_search.instrumentation.stages.operations import (
    GATES,
    GLOBAL_POOLS,
    KEEPS_VALUES,
    NORMS_AND_ACTIVATIONS,
    Operation,
    joins,
    kind,
    weighted,
)
from lomix_search.instrumentation.stages.sizes import grows


def gates(graph: nx.DiGraph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return attention values: what a sigmoid or softmax makes, until a layer with weights works on it.

    Args:
        graph: The data flow.
        nodes: Its nodes, in the order in which they ran.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        passed = any(p in found for p in graph.pred[node]) and not weighted(node) and not joins(node)
        product = kind(node) is Operation.MULTIPLICATION and any(p not in found for p in graph.pred[node])
        if kind(node) in GATES or (passed and not product):
            found.add(node)
    return found


def spectra(graph: nx.DiGraph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return what a Fourier transform makes, until it is transformed back: its axes are frequencies, so it is no map.

    That is all that is complex, and what layers make of its parts if it leads on through another transform alone.

    Args:
        graph: The data flow.
        nodes: Its nodes, in the order in which they ran.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    past = _not_transformed(graph)
    for node in nodes:
        dtype = node.meta.get("dtype")
        begun = kind(node) is Operation.FOURIER
        made = begun or any(source in found for source in graph.pred[_maker(graph, node)])
        if made and dtype is not None and (dtype.is_complex or not (begun or node in past)):
            found.add(node)
    return found


def _not_transformed(graph: nx.DiGraph) -> set[fx.Node]:
    """Return what leads to an end of the data flow on a way without a Fourier transform."""
    left = [node for node in graph if not graph.succ[node]]
    found = set(left)
    while left:
        node = left.pop()
        sources = [] if kind(node) is Operation.FOURIER else [one for one in graph.pred[node] if one not in found]
        found.update(sources)
        left += sources
    return found


def slices(graph: nx.DiGraph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return what a map is cut into along an axis and laid together of again, without a layer on one alone.

    As recurrent layers do that go through a map slice by slice: it stays on its level.

    Args:
        graph: The data flow.
        nodes: Its nodes, in the order in which they ran.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        whole, left, passed = map_size(node), list(graph.pred[node]), set[fx.Node]()
        if kind(node) not in (Operation.CONCATENATION, Operation.STACK) or not whole or len(left) < 2:
            continue
        if any(math.prod(map_size(one)) >= math.prod(whole) for one in left):
            continue  # not along an axis of space
        while left:
            one = left.pop()
            if weighted(one) or not graph.pred[one]:
                break
            passed.add(one)
            left += [s for s in graph.pred[one] if s not in passed and map_size(s) != whole]
        else:
            found |= passed
    return found


def pooled(graph: nx.DiGraph, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return what a global pooling makes, until it meets a map again: a gate or a context, rather than a level.

    Args:
        graph: The data flow.
        nodes: Its nodes, in the order in which they ran.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        maker = _maker(graph, node)
        layout, sources = node.meta.get("map"), [s for s in graph.pred[maker] if s.meta.get("map")]
        if layout is None or set(layout.size) != {1} or not sources:
            continue
        drop = max(max(s.meta["map"].size) for s in sources)
        if drop >= 4 or (drop > 1 and kind(maker) in GLOBAL_POOLS) or all(s in found for s in sources):
            found.add(node)
    return found


def _maker(graph: nx.DiGraph, node: fx.Node) -> fx.Node:
    """Return the operation that made a value: the value itself, or what returned it as one of several."""
    made_of = list(graph.pred[node])
    return made_of[0] if len(made_of) == 1 and "shape" not in made_of[0].meta else node


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


def with_logits_beside(graph: nx.DiGraph, classes: int) -> set[fx.Node]:
    """Return maps of which a layer makes coarser logits that come up beside the map itself, and are laid beside it.

    Args:
        graph: The data flow.
        classes: Channels of the logits.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    for node in (one for one in graph if weighted(one) and channels(one) == classes):
        sources = [s for s in graph.pred[node] if channels(s) > classes and map_size(s) == map_size(node)]
        if len(sources) == 1 and (joints := _joints(graph, node, classes)):
            others = graph.copy()
            others.remove_node(node)
            found.update(source for source in sources if joints & nx.descendants(others, source))
    return found


def _joints(graph: nx.DiGraph, logits: fx.Node, classes: int) -> set[fx.Node]:
    """Return where values are laid beside others on a finer level, up to where they keep their channels."""
    found, front, passed = set[fx.Node](), [logits], {logits}
    while front:
        for user in graph.succ[front.pop()]:
            if joins(user) and map_size(user) and grows(map_size(logits), map_size(user)):
                found.add(user)
            elif user not in passed and channels(user) == classes and kind(user) not in NORMS_AND_ACTIVATIONS:
                passed.add(user)
                front.append(user)
    return found
