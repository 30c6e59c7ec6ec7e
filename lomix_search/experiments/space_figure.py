"""The graph of a search space as a picture, or as text for Graphviz, Mermaid and GraphML."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from lomix_search.errors import SpaceError, require
from lomix_search.experiments.figures import OKABE_ITO, new_figure, save_figure
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import telling_digits


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
        raise SpaceError(
            f'"{path.name}": no picture format ends in "{path.suffix}". Known: {known}.',
            hint=str(path.with_suffix(".svg")) if path.name.strip(".") else "space.svg",
        )


def _picture(graph: nx.DiGraph, path: Path) -> None:
    """Draw stages, operators and maps from left to right.

    Lines end where a box begins and run to originals above all operators, so that none crosses a label. Boxes of maps
    have the colour of their weight, from the smallest to the largest; lines that of their operator.
    """
    maps = [node for node, kind in graph.nodes(data="kind") if kind == "map"]
    groups = _groups(graph, maps)
    across = 1 if len(maps) <= _SINGLE else _ACROSS
    place, rows = _places(graph, groups, across)
    figure = new_figure(4.6 + 2.1 * across, 0.24 * rows + 1.3)
    axis = figure.subplots()
    colours = {kind: OKABE_ITO[i % len(OKABE_ITO)] for i, kind in enumerate(groups)}
    strength = _strengths(graph)
    for source, target in _lines(graph, groups, across):
        kind = source if source in groups else target if target in groups else ""
        colour = colours.get(kind, colours.get("", OKABE_ITO[0]))
        _line(axis, place, source, target, colour, strength.get(target, 0.4))
    _boxes(axis, graph, place, strength, colours)
    for x, name in ((0.0, "stages, coarse to fine"), (1.0, "operators"), (2.0, "maps")):
        axis.text(x, -1.2, name, ha="left" if x == 2 else "center", weight="bold", fontsize=9)
    weights = [data["weight"] for _, data in graph.nodes(data=True) if "weight" in data]
    ends = (
        f", weights {_written(min(weights), weights)} (light) to {_written(max(weights), weights)}" if weights else ""
    )
    axis.set(xlim=(-0.35, 2 + 0.85 * across), ylim=(rows + 0.2, -2.2))
    axis.set_title(f"{graph.graph['name']}: {len(maps)} maps{ends}", fontsize=10)
    axis.axis("off")
    save_figure(figure, path)


_SINGLE, _ACROSS = 60, 3  # so many maps stand in one column; of more, each operator has several
_Places = Mapping[str, tuple[float, float]]


def _groups(graph: nx.DiGraph, maps: Iterable[str]) -> dict[str, list[str]]:
    """Return the maps of each operator, in the order of the maps; originals come first, under no operator's name."""
    found: dict[str, list[str]] = {}
    for node in maps:
        kinds = [source for source in graph.predecessors(node) if graph.nodes[source]["kind"] == "operator"]
        found.setdefault(kinds[0] if kinds else "", []).append(node)
    return dict(sorted(found.items(), key=lambda pair: pair[0] != ""))


def _places(
    graph: nx.DiGraph, groups: Mapping[str, list[str]], across: int
) -> tuple[dict[str, tuple[float, float]], int]:
    """Return (column, row) of every node, and the number of rows; an operator stands beside its maps."""
    place, row = dict[str, tuple[float, float]](), 0
    for kind, members in groups.items():
        wide = 1 if kind == "" else across
        tall = -(-len(members) // wide)
        for i, node in enumerate(members):
            place[node] = (2 + 0.85 * (i // tall), row + i % tall)
        if kind:
            place[kind] = (1.0, row + (tall - 1) / 2)
        row += tall + 1
    stages = [node for node, kind in graph.nodes(data="kind") if kind == "stage"]
    rows = max(row - 1, len(stages))
    return place | {node: (0.0, (i + 0.5) * rows / len(stages) - 0.5) for i, node in enumerate(stages)}, rows


def _strengths(graph: nx.DiGraph) -> dict[str, float]:
    """Return 0 … 1 for each map that has a weight: the smallest to the largest; 0.5 where all are equal."""
    weights = nx.get_node_attributes(graph, "weight")
    low, high = min(weights.values(), default=0.0), max(weights.values(), default=0.0)
    return {node: (weight - low) / (high - low) if high > low else 0.5 for node, weight in weights.items()}


def _lines(graph: nx.DiGraph, groups: Mapping[str, list[str]], across: int) -> Iterable[tuple[str, str]]:
    """Return the edges to draw; to a group in several columns one that leads to its first column."""
    for source, target in graph.edges:
        if across == 1 or source not in groups or target == groups[source][len(groups[source]) // (2 * across)]:
            yield source, target


def _line(axis: Any, place: _Places, source: str, target: str, colour: str, strength: float) -> None:
    """Draw a curve between two boxes; one to an original is at its height before it passes the operators."""
    (x0, y0), (x1, y1) = place[source], place[target]
    x0, end = x0 + (0.2 if x0 < 1 else 0.24), x1 - (0.24 if x1 == 1 else 0.03)
    bend = min(end, 0.7) if x1 - place[source][0] > 1 else end
    t = np.linspace(0, 1, 24)
    xs, ys = np.append(x0 + t * (bend - x0), end), np.append(y0 + (3 * t**2 - 2 * t**3) * (y1 - y0), y1)
    axis.plot(xs, ys, color=colour, lw=0.5 + 1.6 * strength, alpha=0.25 + 0.5 * strength, solid_capstyle="round")


def _boxes(
    axis: Any, graph: nx.DiGraph, place: _Places, strength: Mapping[str, float], colours: Mapping[str, str]
) -> None:
    shades = require("matplotlib", "plot").colormaps["YlGnBu"]
    weights = [data["weight"] for _, data in graph.nodes(data=True) if "weight" in data]
    for node, (x, y) in place.items():
        data, style = (
            graph.nodes[node],
            {"boxstyle": "round,pad=0.25", "ec": colours.get(node, "#999999"), "fc": "white"},
        )
        shown, dark = node, False
        if "weight" in data:
            shown, dark = f"{node} {_written(data['weight'], weights)}", strength[node] > 0.7
            style |= {"fc": shades(0.05 + 0.85 * strength[node])}
        axis.text(
            x, y, shown, ha="left" if x >= 2 else "center", va="center", fontsize=8, bbox=style,
            color="white" if dark else "black",
        )  # fmt: skip


def _written(weight: float, among: Iterable[float]) -> str:
    return f"{weight:.{telling_digits(among)}f}"


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
