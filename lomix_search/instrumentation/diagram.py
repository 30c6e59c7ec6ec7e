"""A picture of a network's data flow with its stages marked, as an SVG that needs no other program."""

import html
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages import Stages
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.layouts import layout_of, map_layout
from lomix_search.instrumentation.stages.taps import Tap, call_values
from lomix_search.instrumentation.trace import ModuleCall, Trace, operation, sizes

_WIDTH, _HEIGHT, _GAP, _APART = 190, 34, 14, 230
_DEEPEST = 12  # levels of modules in modules
_FOLDED = 24
"""With more boxes than this the encoder is folded: about what can be read on one page."""

_COLOURS = {
    "box": ("#eef3fa", "#9ab"),
    "folded": ("#dde7e2", "#8a9"),
    "stage": ("#ffd9a0", "#c60"),
    "other": ("none", "#c60"),
}
"""Fill and edge by the class of a box, which a page may give other colours."""


def draw(trace: Trace, stages: Stages, most: int = 80, fold: bool | None = None) -> str:
    """Draw the modules of a network: one column for each resolution, finest to the left, time downwards.

    The modules are as deep as it takes to have each stage at the bottom of a box of its own.

    Args:
        trace: As from :func:`lomix_search.instrumentation.trace.trace`.
        stages: The stages to mark, as from :func:`lomix_search.instrumentation.stages.find_stages`. Dashed is what a
            second reading of the network does not have, and without a fill what it has instead; their columns say so.
        most: Boxes at most; with more, modules are drawn as deep as that allows.
        fold: Whether the encoder, which is all that is made of no coarser map, becomes one box at each size; None folds
            it where there are more than 24 boxes.

    Returns:
        The text of an SVG file, which any browser shows.
    """
    boxes, marked, instead = _boxes(trace, stages, most, fold)
    apart = {number + 1 for number in (stages.opinion.apart if stages.opinion else ())}
    unsure = {box.size for box, number in marked.items() if number in apart} | {box.size for box in instead}
    columns = {size: i for i, size in enumerate(sorted({box.size for box in boxes}, reverse=True))}
    rows = _rows(boxes)
    place = {box: (20 + columns[box.size] * _APART, 80 + rows[box] * (_HEIGHT + _GAP)) for box in boxes}
    width, height = max(700, 20 + len(columns) * _APART), 90 + (max(rows.values()) + 1) * (_HEIGHT + _GAP)
    title = f"{stages.network}: {len(stages)} stages, coarse to fine: {', '.join(stage.name for stage in stages)}"
    title = title if len(title) < width // 7 else f"{title[: width // 7]}…"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        "<style>svg:root { max-width: 100%; height: auto }</style>"  # opened by itself it fits any window
        f'<title>{html.escape(stages.network)}</title><rect class="page" width="100%" height="100%" fill="white"/>',
        f'<text x="20" y="26" font-size="14">{html.escape(title)}</text>',
        *(_column(size, 20 + i * _APART, size in unsure) for size, i in columns.items()),
        *(_arrow(place[a], place[b]) for a, b in boxes.edges),
        *(_box(box, place[box], marked.get(box, 0), marked.get(box, 0) in apart, instead.get(box, 0)) for box in boxes),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts)


@dataclass(eq=False)
class Box:
    """What one call of a module makes at one size, or what a few operations between drawn modules make.

    Args:
        path: The module; "" for the network itself.
        size: Of the maps.
        whole: Whether all of the module is in one box at each size; else it stands for operations in its ``forward()``.
        nodes: The maps, in the order of execution.
        holds: Boxes of the encoder that are folded into this one.
    """

    path: str
    size: tuple[int, ...]
    whole: bool
    nodes: list[fx.Node] = field(default_factory=list)
    holds: list["Box"] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The module, and the operations where it does them itself."""
        if self.nodes[0].op == "placeholder":
            return "input"
        if self.holds:
            return f"{_place([box.path for box in self.holds])} ({len(self.holds)} blocks)"
        names = list(dict.fromkeys(operation(node) for node in self.nodes))
        made = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        return self.path if self.whole else f"{self.path}: {made}" if self.path else made

    @property
    def pixels(self) -> int:
        """Positions of the maps."""
        return math.prod(self.size)


def _place(paths: Sequence[str]) -> str:
    """Say where modules stand: in the module that holds them all, else from the first to the last."""
    named = list(dict.fromkeys(path for path in paths if path)) or ["forward"]
    first, last = named[0].split("."), named[-1].split(".")
    common = [a for i, a in enumerate(first) if all(path.split(".")[: i + 1] == first[: i + 1] for path in named)]
    if len(common) == min(len(first), len(last)) or (common and len(named) > 2):
        return ".".join(common)
    return f"{named[0]} … {named[-1]}"


def _boxes(
    trace: Trace, stages: Stages, most: int, fold: bool | None
) -> tuple[nx.DiGraph, Mapping[Box, int], Mapping[Box, int]]:
    """The feature maps grouped by module and size, in the order of execution.

    And which boxes end in which stage, and which hold the stages that a second reading has instead.
    """
    read_layouts(trace)
    finished = [_tapped(trace, stage.tap) for stage in stages]
    others = [_tapped(trace, other.tap) for other in (stages.opinion.others if stages.opinion else ())]
    maps = _maps(trace, {len(stage.size) for stage in stages}, [*finished, *others])
    flat = [_grouped(trace, maps, depth) for depth in range(1, _DEEPEST)]
    boxes_of = _deep_enough(flat, stages, finished, most)
    if fold or (fold is None and len(set(boxes_of.values())) > _FOLDED):
        boxes_of = _deep_enough([_folded(of, maps, {*finished, *others}) for of in flat], stages, finished, most)
    found = nx.DiGraph()
    found.add_nodes_from(dict.fromkeys(boxes_of.values()))
    found.add_edges_from((boxes_of[a], boxes_of[b]) for a, b in maps.edges if boxes_of[a] is not boxes_of[b])
    marked = {boxes_of[node]: number for number, node in enumerate(finished, 1)}
    instead = {boxes_of[node]: number for number, node in enumerate(others, 1) if node not in finished}
    return found, marked, {box: number for box, number in instead.items() if box not in marked}


def _deep_enough(
    flat: Sequence[dict[fx.Node, Box]], stages: Stages, finished: Sequence[fx.Node], most: int
) -> dict[fx.Node, Box]:
    """Of some groupings, less deep to deeper, return the first that tells the stages apart, with at most that many."""
    fits = [of for of in flat if len(set(of.values())) <= most] or flat[:1]
    return next((of for of in fits if _tells_apart(of, stages, finished)), fits[-1])


def _folded(boxes_of: dict[fx.Node, Box], maps: nx.DiGraph, kept: Container[fx.Node]) -> dict[fx.Node, Box]:
    """Put all boxes of one size into one that are made of no coarser map, are no input and hold nothing to be marked.

    That is the encoder, and what is done to its maps on the way to the decoder.
    """
    least: dict[Box, int] = {}
    for node, box in boxes_of.items():
        given = [least.get(boxes_of[source], box.pixels) for source in maps.pred[node]]
        least[box] = min(least.get(box, box.pixels), *given, box.pixels)
    shown = {box for node, box in boxes_of.items() if node in kept or node.op == "placeholder"}
    groups: dict[tuple[int, ...], list[Box]] = {}
    for box, pixels in least.items():
        if pixels == box.pixels and box not in shown:
            groups.setdefault(box.size, []).append(box)
    order = {node: i for i, node in enumerate(boxes_of)}
    into: dict[Box, Box] = {}
    for size, held in groups.items():
        if len(held) > 1:
            nodes = sorted((node for box in held for node in box.nodes), key=order.__getitem__)
            into |= dict.fromkeys(held, Box(held[0].path, size, whole=True, nodes=nodes, holds=held))
    return {node: into.get(box, box) for node, box in boxes_of.items()}


def _rows(boxes: nx.DiGraph) -> dict[Box, int]:
    """Return the row of each box: below what it is made of, and below the boxes of its column that come before it."""
    rows: dict[Box, int] = {}
    free: dict[tuple[int, ...], int] = {}
    for box in boxes:
        given = [rows[source] + 1 for source in boxes.pred[box] if source in rows]
        rows[box] = max((*given, free.get(box.size, 0)))
        free[box.size] = rows[box] + 1
    return rows


def _maps(trace: Trace, ranks: Container[int], finished: Container[fx.Node]) -> nx.DiGraph:
    """The values known to be maps; an edge where one leads to another directly, or through values that are none."""
    whole, found, behind = trace.network(), nx.DiGraph(), dict[fx.Node, tuple[fx.Node, ...]]()
    for node in trace.graph.nodes:
        sources = tuple(dict.fromkeys(s for given in whole.pred[node] for s in behind[given]))
        layout = layout_of(node) if node.meta.get("map") or node in finished else None
        more = layout is not None and max(layout.size, default=1) > 1  # than a pooled vector
        if node in finished or (node.op != "get_attr" and layout and len(layout.size) in ranks and more):
            found.add_node(node)
            found.add_edges_from((source, node) for source in sources)
            sources = (node,)
        behind[node] = sources
    return found


def _tapped(trace: Trace, tap: Tap) -> fx.Node:
    """Return the value that is tapped."""
    (call,) = (call for call in trace.calls if (call.path, call.index) == (tap.path, tap.call))
    return next(node for place, node in call_values(call, tap.side) if place == tap.place)  # type: ignore[no-any-return]


def _grouped(trace: Trace, maps: nx.DiGraph, depth: int) -> dict[fx.Node, Box]:
    """Put each map in the box of the call around it that lies ``depth`` calls deep.

    What a module does itself between the modules that it calls is in one box as long as nothing else runs between.
    """
    owners: list[ModuleCall | None] = [None] * len(trace.graph.nodes)
    around: list[ModuleCall] = []
    opened: set[tuple[str, int]] = set()
    for inner in trace.calls:
        around = [*(outer for outer in around if outer.holds(inner)), inner]
        if inner.first < inner.last and len(around) <= depth + 1:  # the first one is the network itself
            owners[inner.first : inner.last] = [inner] * (inner.last - inner.first)
            opened |= {(outer.path, outer.index) for outer in around[:-1]}
    found: dict[fx.Node, Box] = {}
    wholes: dict[tuple[str, int, tuple[int, ...]], Box] = {}
    box = Box("", (), whole=True)
    for call, node in zip(owners, trace.graph.nodes, strict=True):
        if node in maps:
            path, index, size = call.path if call else "", call.index if call else 0, map_layout(node).size
            if call and (path, index) not in opened:
                box = wholes.setdefault((path, index, size), Box(path, size, whole=True))
            elif box.whole or (box.path, box.size) != (path, size) or box.nodes[-1].op == "placeholder":
                box = Box(path, size, whole=False)
            box.nodes.append(node)
            found[node] = box
    return found


def _tells_apart(boxes: Mapping[fx.Node, Box], stages: Stages, finished: Sequence[fx.Node]) -> bool:
    """Whether each stage is at the end of a box of its own, which is the module it is tapped at, or inside of that."""
    own = [(boxes[node], node, stage.tap) for node, stage in zip(finished, stages, strict=True)]
    return len({box for box, _, _ in own}) == len(own) and all(
        box.nodes[-1] is node and (tap.side == "input" or _within(box.path, tap.path)) for box, node, tap in own
    )


def _within(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.") or not module


def _column(size: tuple[int, ...], x: int, unsure: bool) -> str:
    if unsure:
        return f'<text class="unsure" x="{x}" y="62" fill="#a40">{sizes(size)} · readings differ</text>'
    return f'<text class="soft" x="{x}" y="62" fill="#555">{sizes(size)}</text>'


def _box(box: Box, at: tuple[int, int], stage: int, unsure: bool, instead: int) -> str:
    (x, y), channels = at, map_layout(box.nodes[-1]).channels
    kind = "stage" if stage else "other" if instead else "folded" if box.holds else "box"
    fill, edge = _COLOURS[kind]
    what = (f"stage {stage} · " if stage else "") + f"{channels} channel" + "s" * (channels > 1)
    what += " · not sure" * unsure + f" · other reading's stage {instead}" * bool(instead)
    dashed = ' stroke-dasharray="5 3"' if unsure or instead else ""
    name = box.label
    shown = name if len(name) <= 28 else "…" + name[-27:]
    made = ", ".join([held.path or held.label for held in box.holds] or dict.fromkeys(map(operation, box.nodes)))
    return (
        f'<g><title>{html.escape(f"{name}, {what}, {sizes(box.size)}: {made}")}</title><rect class="{kind}" x="{x}" '
        f'y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{fill}" stroke="{edge}"{dashed}/>'
        f'<text x="{x + 8}" y="{y + 14}">{html.escape(shown)}</text>'
        f'<text class="soft" x="{x + 8}" y="{y + 28}" fill="#555" font-size="9">{html.escape(what)}</text></g>'
    )


def _arrow(a: tuple[int, int], b: tuple[int, int]) -> str:
    x1, y1, x2, y2 = a[0] + _WIDTH / 2, a[1] + _HEIGHT, b[0] + _WIDTH / 2, b[1]
    middle = (y1 + y2) / 2
    return f'<path d="M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}" class="arrow" fill="none" stroke="#9ab"/>'
