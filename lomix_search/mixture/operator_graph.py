"""The search space as a graph that is drawn and exported: stages feed operators, operators make maps."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lomix_search.mixture.maps import Map
from lomix_search.mixture.operators import find_operator

if TYPE_CHECKING:
    import networkx as nx


def build_operator_graph(
    name: str, operators: Iterable[str], maps: Iterable[Map], num_stages: int, num_classes: int
) -> "nx.DiGraph":
    """Build the graph: stage nodes → operator nodes → map nodes (an original hangs on its stage directly).

    Args:
        name: The space's.
        operators: Names of its operators.
        maps: Its maps.
        num_stages: L, the number of stages.
        num_classes: C; parameter counts and costs depend on it.

    Returns:
        A graph whose nodes have the attributes that ``SearchSpace.graph`` lists.
    """
    import networkx as nx  # slow to import, and a space is seldom drawn

    graph = nx.DiGraph(name=name, num_stages=num_stages, num_classes=num_classes)
    graph.add_nodes_from((f"stage {scale}", {"kind": "stage"}) for scale in range(1, num_stages + 1))
    graph.add_nodes_from((operator, {"kind": "operator"}) for operator in operators)
    for m in maps:
        graph.add_node(m.id, kind="map", **_attributes(m, num_classes))
        stages = [f"stage {scale}" for scale in m.scales]
        if m.operator == "original":
            graph.add_edge(stages[0], m.id)
        else:
            graph.add_edges_from([*((stage, m.operator) for stage in stages), (m.operator, m.id)])
    return graph


def _attributes(m: Map, num_classes: int) -> dict[str, Any]:
    arity = len(m.scales)
    learned = None if m.operator == "original" else find_operator(m.operator).module
    parameters = sum(p.numel() for p in learned(num_classes, arity).parameters()) if learned else 0
    return {
        "operator": m.operator,
        "scales": ",".join(map(str, m.scales)),
        "arity": arity,
        "parameters": parameters,
        "cost": parameters + (arity - 1) * num_classes,
    }
