"""A picture of a network's data flow with its stages marked, as an SVG that needs no other program."""

import html

import networkx as nx
from torch import fx

from lomix_search.stages import Stages
from lomix_search.trace import Trace, sizes

_WIDTH, _HEIGHT, _GAP = 190, 30, 14


def draw(trace: Trace, stages: Stages, most: int = 80) -> str:
    """Draw the modules of a network: one column for each resolution, finest to the left, time downwards.

    Args:
        trace: As from :func:`lomix_search.trace.trace`.
        stages: The stages to mark, as from :func:`lomix_search.stages.find_stages`.
        most: Boxes at most; modules are shown as deep as that allows.

    Returns:
        The text of an SVG file, which any browser shows.
    """
    boxes = _boxes(trace, most)
    columns = {size: i for i, size in enumerate(sorted({size for _, size in boxes}, reverse=True))}
    place = {box: (20 + columns[box[1]] * (_WIDTH + 40), 50 + row * (_HEIGHT + _GAP)) for row, box in enumerate(boxes)}
    width, height = 20 + len(columns) * (_WIDTH + 40), 60 + len(boxes) * (_HEIGHT + _GAP)
    marked: dict[Box, int] = {}
    for number, stage in enumerate(stages, 1):  # the last box at a stage's module and size is where it is finished
        made = [box for box in boxes if _made_by(stage.tap.path, box) and stage.size == box[1]]
        marked |= {box: number for box in made[-1:]}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<title>{html.escape(stages.network)}</title><rect width="100%" height="100%" fill="white"/>',
        *(_heading(size, 20 + i * (_WIDTH + 40)) for size, i in columns.items()),
        *(_arrow(place[a], place[b]) for a, b in boxes.edges),
        *(_box(box, place[box], marked.get(box, 0)) for box in boxes),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts)


Box = tuple[str, tuple[int, ...]]
"""A module's path and the size of the maps it makes."""


def _boxes(trace: Trace, most: int) -> nx.DiGraph:
    """The feature maps grouped by module and size, in the order of execution."""
    rank = max((len(node.meta.get("shape", ())) for _, node in trace.outputs), default=4)
    flow = trace.network()
    depth = max(deep for deep in range(1, 9) if deep == 1 or len(set(_grouped(flow, rank, deep).values())) <= most)
    group = _grouped(flow, rank, depth)
    found = nx.DiGraph()
    found.add_nodes_from(group.values())
    found.add_edges_from(
        (group[a], group[b]) for a, b in flow.edges if a in group and b in group and group[a] != group[b]
    )
    return found


def _grouped(flow: nx.DiGraph, rank: int, depth: int) -> dict[fx.Node, Box]:
    return {
        node: (".".join(node.meta.get("module", "").split(".")[:depth]), tuple(node.meta["shape"][2:]))
        for node in flow
        if len(node.meta.get("shape", ())) == rank and node.op != "get_attr"
    }


def _made_by(path: str, box: Box) -> bool:
    return bool(box[0]) and (path == box[0] or path.startswith(f"{box[0]}.") or box[0].startswith(f"{path}."))


def _heading(size: tuple[int, ...], x: int) -> str:
    return f'<text x="{x}" y="28" fill="#555">{sizes(size)}</text>'


def _box(box: Box, at: tuple[int, int], stage: int) -> str:
    (x, y), name = at, box[0] or "forward()"
    fill, edge = ("#ffd9a0", "#c60") if stage else ("#eef3fa", "#9ab")
    label = f"{name}  · stage {stage}" if stage else name
    shown = label if len(label) <= 30 else "…" + label[-29:]
    return (
        f'<g><title>{html.escape(label)} {sizes(box[1])}</title><rect x="{x}" y="{y}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="5" fill="{fill}" stroke="{edge}"/>'
        f'<text x="{x + 8}" y="{y + 19}">{html.escape(shown)}</text></g>'
    )


def _arrow(a: tuple[int, int], b: tuple[int, int]) -> str:
    x1, y1, x2, y2 = a[0] + _WIDTH / 2, a[1] + _HEIGHT, b[0] + _WIDTH / 2, b[1]
    middle = (y1 + y2) / 2
    return f'<path d="M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}" fill="none" stroke="#9ab"/>'
