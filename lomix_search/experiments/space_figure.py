"""The graph of a search space as a picture, or as text for Graphviz, Mermaid and GraphML."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from lomix_search.errors import SpaceError, require
from lomix_search.experiments.figures import OKABE_ITO, new_figure, save_figure
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.files import write_text


def draw_space(space: SearchSpace, num_stages: int, path: Path, weights: Mapping[str, float] | None = None) -> None:
    """Draw the graph of a search space; the format follows from the ending.

    Args:
        space: The space.
        num_stages: L, the number of stages.
        path: ``.png``, ``.svg`` or ``.pdf`` (a picture), ``.dot`` (Graphviz), ``.mmd`` (Mermaid) or ``.graphml``.
        weights: Weights by map id; colours the maps.

    Raises:
        SpaceError: another ending.
    """
    graph = space.graph(num_stages)
    for name, weight in (weights or {}).items():
        graph.nodes[name]["weight"] = float(weight)
    writers: dict[str, Callable[[nx.DiGraph], str]] = {".dot": _dot, ".mmd": _mermaid, ".graphml": _graphml}
    if path.suffix in writers:
        write_text(path, writers[path.suffix](graph))
    elif path.suffix in (".png", ".svg", ".pdf"):
        _picture(graph, path)
    else:
        known = ", ".join([*writers, ".png", ".svg", ".pdf"])
        raise SpaceError(f'"{path.name}": no picture format ends in "{path.suffix}". Known: {known}.')


def _picture(graph: nx.DiGraph, path: Path) -> None:
    blues = require("matplotlib", "plot").colormaps["Blues"]
    kinds = nx.get_node_attributes(graph, "kind")
    columns = [[node for node, kind in kinds.items() if kind == wanted] for wanted in ("stage", "operator", "map")]
    tall = max(len(columns[2]), 6)
    place = {
        node: (x, -(i + 0.5) * tall / len(column)) for x, column in enumerate(columns) for i, node in enumerate(column)
    }
    weights = nx.get_node_attributes(graph, "weight")
    top = max(weights.values(), default=1.0) or 1.0
    figure = new_figure(9, 0.24 * tall + 1)
    axis = figure.subplots()
    for source, target in graph.edges:
        (x0, y0), (x1, y1) = place[source], place[target]
        strength = weights.get(target, top) / top if target in weights else 0.3
        axis.plot(
            [x0 + 0.13, x1 - 0.1], [y0, y1], color=OKABE_ITO[0], lw=0.4 + 1.6 * strength, alpha=0.15 + 0.6 * strength
        )
    for node, (x, y) in place.items():
        shown = _label(node, graph.nodes[node])
        box = {"boxstyle": "round,pad=0.2", "ec": "#999999"}
        face = blues(0.1 + 0.45 * weights[node] / top) if node in weights else "#eeeeee"
        axis.text(x, y, shown, ha="center", va="center", fontsize=8, bbox=box | {"fc": face})
    for x, name in enumerate(("stages, coarse to fine", "operators", "maps")):
        axis.text(x, 0.7, name, ha="center", weight="bold")
    axis.set(xlim=(-0.35, 2.35), ylim=(-tall - 0.3, 1.3), title=f"{graph.graph['name']}: {len(columns[2])} maps")
    axis.axis("off")
    save_figure(figure, path)


def _dot(graph: nx.DiGraph) -> str:
    shapes = {"stage": "box", "operator": "ellipse", "map": "note"}
    nodes = [
        f'  "{node}" [shape={shapes[data["kind"]]}, label="{_label(node, data)}"];'
        for node, data in graph.nodes.items()
    ]
    edges = [f'  "{source}" -> "{target}";' for source, target in graph.edges]
    return "\n".join(["digraph space {", "  rankdir=LR;", *nodes, *edges, "}"]) + "\n"


def _mermaid(graph: nx.DiGraph) -> str:
    numbers = {node: f"n{i}" for i, node in enumerate(graph)}
    nodes = [f'  {numbers[node]}["{_label(node, data)}"]' for node, data in graph.nodes.items()]
    edges = [f"  {numbers[source]} --> {numbers[target]}" for source, target in graph.edges]
    return "\n".join(["flowchart LR", *nodes, *edges]) + "\n"


def _graphml(graph: nx.DiGraph) -> str:
    return "\n".join(nx.generate_graphml(graph)) + "\n"  # type: ignore[no-untyped-call]


def _label(node: str, data: Mapping[str, Any]) -> str:
    return f"{node} {data['weight']:.3f}" if "weight" in data else node
