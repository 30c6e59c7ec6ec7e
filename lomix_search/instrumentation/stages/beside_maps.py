"""Values that are no maps of a level, though they lie like some: gates, spectra, and what a global pooling makes."""

from collections.abc import Iterable

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.operations import GATES, GLOBAL_POOLS, Operation, joins, kind, weighted


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
    """Return what a Fourier transform makes, as long as it is complex: its axes are frequencies, so it is no map.

    Args:
        graph: The data flow.
        nodes: Its nodes, in the order in which they ran.

    Returns:
        Some of the nodes.
    """
    found: set[fx.Node] = set()
    for node in nodes:
        dtype = node.meta.get("dtype")
        made = kind(node) is Operation.FOURIER or any(source in found for source in graph.pred[node])
        if made and dtype is not None and dtype.is_complex:
            found.add(node)
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
        layout, sources = node.meta.get("map"), [s for s in graph.pred[node] if s.meta.get("map")]
        if layout is None or set(layout.size) != {1} or not sources:
            continue
        drop = max(max(s.meta["map"].size) for s in sources)
        if drop >= 4 or (drop > 1 and kind(node) in GLOBAL_POOLS) or all(s in found for s in sources):
            found.add(node)
    return found
