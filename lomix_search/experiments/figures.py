"""Pictures of a run: predictions beside the truth, weights over time and by map, the search space as a graph."""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import SpaceError, require
from lomix_search.experiments.predictions import PredictedSlices
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.files import write_bytes, write_text

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")


def draw_predictions(
    path: Path,
    images: NDArray[Any],
    truth: NDArray[Any],
    predictions: NDArray[Any],
    classes: Sequence[str],
    titles: Sequence[str],
) -> None:
    """Draw image, truth and prediction side by side, one row a slice, and a fourth column with the disagreements.

    Args:
        path: The PNG to write.
        images: (N, H, W), any range.
        truth: (N, H, W) class indices.
        predictions: (N, H, W) class indices.
        classes: Names, background first.
        titles: One a row.
    """
    rows, patch = len(images), require("matplotlib.patches", "plot").Patch
    figure = new_figure(11, 2.75 * rows + 0.8)
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, title in zip(range(rows), titles, strict=True):
        counted = truth[row] < len(classes)  # else a label that is ignored
        wrong = np.where(counted & (truth[row] != predictions[row]), 1.0, np.nan)
        for column, overlay in enumerate((None, truth[row], predictions[row], None)):
            axis = axes[row, column]
            axis.imshow(images[row], cmap="gray", interpolation="nearest")
            if overlay is not None:
                axis.imshow(_coloured(overlay, len(classes)), interpolation="nearest")
            if column == 3:
                axis.imshow(wrong, cmap="autumn", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(title)
    for axis, name in zip(axes[0], ("image", "truth", "prediction", "where they differ"), strict=True):
        axis.set_title(name)
    shown = [f" {name}" if name.startswith("_") else name for name in classes]  # matplotlib leaves out names with _
    patches = [patch(color=_COLOURS[(i - 1) % len(_COLOURS)], label=name) for i, name in enumerate(shown) if i]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    save_figure(figure, path)


def draw_seen(path: Path, seen: PredictedSlices, noun: str = "") -> None:
    """Draw what a network made of some slices.

    Args:
        path: The PNG to write.
        seen: The slices.
        noun: Call them by this word and a number rather than by their names.
    """
    grey = seen.images if seen.images.ndim == 3 else seen.images.mean(-1)
    titles = [f"{noun} {i}" for i in range(1, len(seen.names) + 1)] if noun else seen.names
    draw_predictions(path, grey, seen.truth, seen.predictions, seen.classes, titles)


def draw_weights(path: Path, mixture: Mixture, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the weights over the steps, and the final ones by operator and subset.

    Args:
        path: The PNG to write.
        mixture: What was found.
        history: Lines of metrics.jsonl; those with ``mixture/weights`` are drawn.
    """
    lines = [line for line in history if "mixture/weights" in line]
    width = max(9.0, 2.5 + 0.62 * len(_columns(mixture)))
    figure = new_figure(width, 8.5)
    above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
    _trajectories(above, mixture, lines)
    _heat_map(figure, below, mixture)
    spread = mixture.concentration()
    figure.suptitle(
        f"{mixture.space.name} by {mixture.weighting}: {len(mixture.maps)} maps, "
        f"sum of weights {spread.total:.3g}, {spread.effective_maps:.1f} effective maps"
    )
    save_figure(figure, path)


def draw_heat_map(path: Path, mixture: Mixture) -> None:
    """Draw the found weights by operator and subset.

    Args:
        path: The PNG to write.
        mixture: What was found.
    """
    figure = new_figure(max(9.0, 2.5 + 0.62 * len(_columns(mixture))), 3.8)
    _heat_map(figure, figure.subplots(), mixture)
    save_figure(figure, path)


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


def _trajectories(axis: Any, mixture: Mixture, lines: Sequence[Mapping[str, Any]]) -> None:
    operators = _operators(mixture)
    steps = [line["step"] for line in lines]
    values = np.array([line["mixture/weights"] for line in lines], dtype=float).reshape(len(lines), -1)
    for i, m in enumerate(mixture.maps):
        kind = _operator_of(m.id)
        bold = kind == "original"
        colour = _COLOURS[operators.index(kind) % len(_COLOURS)]
        axis.plot(steps, values[:, i], color=colour, lw=2.2 if bold else 0.8, alpha=1 if bold else 0.65)
    for kind, colour in zip(operators, _COLOURS, strict=False):
        axis.plot([], [], color=colour, lw=2, label=kind)
    axis.set(xlabel="step", ylabel="loss weight", title="weights during the search (bold: originals)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, ncols=len(operators), loc="lower left")
    axis.spines[["top", "right"]].set_visible(False)


def _heat_map(figure: Any, axis: Any, mixture: Mixture) -> None:
    operators, columns = _operators(mixture), _columns(mixture)
    table = np.full((len(operators), len(columns)), np.nan)
    for m in mixture.maps:
        table[operators.index(_operator_of(m.id)), columns.index(_scales_of(m.id))] = m.weight
    picture = axis.imshow(table, cmap="viridis", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), weight in np.ndenumerate(table):
        if not np.isnan(weight):
            shade = "black" if weight > middle else "white"
            axis.text(column, row, f"{weight:.3f}", ha="center", va="center", fontsize=7.5, color=shade)
    axis.set_yticks(range(len(operators)), operators)
    axis.set_xticks(range(len(columns)), columns, rotation=45 if len(columns) > 16 else 0)
    axis.set(xlabel=f"stages fused (1 coarsest, {mixture.num_maps} finest)", title="weights found")
    figure.colorbar(picture, ax=axis, shrink=0.85, pad=0.01)


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
            [x0 + 0.13, x1 - 0.1], [y0, y1], color=_COLOURS[0], lw=0.4 + 1.6 * strength, alpha=0.15 + 0.6 * strength
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


def _coloured(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Return (H, W, 4): each class in its colour, the background transparent."""
    table = [(0.0, 0.0, 0.0, 0.0)]
    for i in range(1, classes):
        code = _COLOURS[(i - 1) % len(_COLOURS)]
        red, green, blue = (int(code[j : j + 2], 16) / 255 for j in (1, 3, 5))
        table.append((red, green, blue, 0.62))
    picture: NDArray[Any] = np.array(table)[np.where(labels < classes, labels, 0)]
    return picture


def _operator_of(name: str) -> str:
    return name.partition("(")[0] if "(" in name else "original"


def _scales_of(name: str) -> str:
    return name.partition("(")[2].rstrip(")") or name.removeprefix("P")


def _operators(mixture: Mixture) -> list[str]:
    return list(dict.fromkeys(_operator_of(m.id) for m in mixture.maps))


def _columns(mixture: Mixture) -> list[str]:
    return sorted({_scales_of(m.id) for m in mixture.maps}, key=lambda scales: (scales.count(","), scales))


def new_figure(width: float, height: float) -> Any:
    """Return a figure of its own, in inches; pyplot's state and the user's back end are left alone."""
    return require("matplotlib.figure", "plot").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure so that there is never half of one; the format follows from the ending.

    Names of classes and cases are shown as they are: a dollar in them begins no formula.
    """
    for text in figure.findobj(require("matplotlib.text", "plot").Text):
        text.set_parse_math(False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is shown
        figure.savefig(content, dpi=130, format=path.suffix[1:])
    write_bytes(path, content.getvalue())
