"""A picture of a network's data flow with its stages marked, as an SVG that needs no other program."""

import html
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


def draw(trace: Trace, stages: Stages, most: int = 80) -> str:
    """Draw the modules of a network: one column for each resolution, finest to the left, time downwards.

    The modules are as deep as it takes to have each stage at the bottom of a box of its own.

    Args:
        trace: As from :func:`lomix_search.instrumentation.trace.trace`.
        stages: The stages to mark, as from :func:`lomix_search.instrumentation.stages.find_stages`; dashed is what a
            second reading of the network does not have.
        most: Boxes at most; with more, modules are drawn as deep as that allows.

    Returns:
        The text of an SVG file, which any browser shows.
    """
    boxes, marked = _boxes(trace, stages, most)
    apart = stages.opinion.apart if stages.opinion else ()
    columns = {size: i for i, size in enumerate(sorted({box.size for box in boxes}, reverse=True))}
    place = {box: (20 + columns[box.size] * _APART, 80 + row * (_HEIGHT + _GAP)) for row, box in enumerate(boxes)}
    width, height = max(700, 20 + len(columns) * _APART), 90 + len(boxes) * (_HEIGHT + _GAP)
    title = f"{stages.network}: {len(stages)} stages, coarse to fine: {', '.join(stage.name for stage in stages)}"
    title = title if len(title) < width // 7 else f"{title[: width // 7]}…"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        "<style>svg:root { max-width: 100%; height: auto }</style>"  # opened by itself it fits any window
        f'<title>{html.escape(stages.network)}</title><rect width="100%" height="100%" fill="white"/>',
        f'<text x="20" y="26" font-size="14">{html.escape(title)}</text>',
        *(f'<text x="{20 + i * _APART}" y="62" fill="#555">{sizes(size)}</text>' for size, i in columns.items()),
        *(_arrow(place[a], place[b]) for a, b in boxes.edges),
        *(_box(box, place[box], marked.get(box, 0), marked.get(box, 0) - 1 in apart) for box in boxes),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts)


_PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>{title}</title>
<style>html, body {{ margin: 0; height: 100%; overflow: hidden }}
  svg {{ width: 100%; height: 100%; cursor: move }}</style>
{drawn}
<script>
const svg = document.querySelector("svg"), box = svg.viewBox.baseVal, whole = [box.x, box.y, box.width, box.height]
const at = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse())
const show = (x, y, width, height) => Object.assign(box, {{ x, y, width, height }})
let held = null
svg.addEventListener("wheel", event => {{
  event.preventDefault()
  const by = event.deltaY > 0 ? 1.2 : 1 / 1.2, point = at(event)
  show(point.x - (point.x - box.x) * by, point.y - (point.y - box.y) * by, box.width * by, box.height * by)
}})
svg.addEventListener("pointerdown", event => {{ held = at(event) }})
addEventListener("pointerup", () => {{ held = null }})
svg.addEventListener("pointermove", event => {{
  if (!held) return
  const point = at(event)
  show(box.x + held.x - point.x, box.y + held.y - point.y, box.width, box.height)
}})
svg.addEventListener("dblclick", () => show(...whole))
</script>
"""


def zoomable(title: str, drawn: str) -> str:
    """Put a picture into a page that shows all of it at once, however large it is.

    The wheel zooms, dragging moves, a double click shows all again.

    Args:
        title: Of the page.
        drawn: As from :func:`draw`.

    Returns:
        The text of an HTML file that needs nothing else.
    """
    return _PAGE.format(title=html.escape(title), drawn=drawn)


@dataclass(eq=False)
class Box:
    """What one call of a module makes at one size, or what a few operations between drawn modules make.

    Args:
        path: The module; "" for the network itself.
        size: Of the maps.
        whole: Whether all of the module is in one box at each size; else it stands for operations in its ``forward()``.
        nodes: The maps, in the order of execution.
    """

    path: str
    size: tuple[int, ...]
    whole: bool
    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The module, and the operations where it does them itself."""
        if self.nodes[0].op == "placeholder":
            return "input"
        names = list(dict.fromkeys(operation(node) for node in self.nodes))
        made = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        return self.path if self.whole else f"{self.path}: {made}" if self.path else made


def _boxes(trace: Trace, stages: Stages, most: int) -> tuple[nx.DiGraph, Mapping[Box, int]]:
    """The feature maps grouped by module and size, in the order of execution, and which boxes end in which stage."""
    read_layouts(trace)
    finished = [_tapped(trace, stage.tap) for stage in stages]
    maps = _maps(trace, {len(stage.size) for stage in stages}, finished)
    flat = [_grouped(trace, maps, depth) for depth in range(1, _DEEPEST)]
    fits = [of for of in flat if len(set(of.values())) <= most] or flat[:1]
    boxes_of = next((of for of in fits if _tells_apart(of, stages, finished)), fits[-1])
    found = nx.DiGraph()
    found.add_nodes_from(dict.fromkeys(boxes_of.values()))
    found.add_edges_from((boxes_of[a], boxes_of[b]) for a, b in maps.edges if boxes_of[a] is not boxes_of[b])
    return found, {boxes_of[node]: number for number, node in enumerate(finished, 1)}


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


def _box(box: Box, at: tuple[int, int], stage: int, unsure: bool = False) -> str:
    (x, y), channels = at, map_layout(box.nodes[-1]).channels
    fill, edge = ("#ffd9a0", "#c60") if stage else ("#eef3fa", "#9ab")
    name, what = box.label, (f"stage {stage} · " if stage else "") + f"{channels} channel" + "s" * (channels > 1)
    what += " · not sure" * unsure
    dashed = ' stroke-dasharray="5 3"' if unsure else ""
    shown = name if len(name) <= 28 else "…" + name[-27:]
    made = ", ".join(dict.fromkeys(operation(node) for node in box.nodes))
    return (
        f'<g><title>{html.escape(f"{name}, {what}, {sizes(box.size)}: {made}")}</title><rect x="{x}" y="{y}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{fill}" stroke="{edge}"{dashed}/>'
        f'<text x="{x + 8}" y="{y + 14}">{html.escape(shown)}</text>'
        f'<text x="{x + 8}" y="{y + 28}" fill="#666" font-size="9">{what}</text></g>'
    )


def _arrow(a: tuple[int, int], b: tuple[int, int]) -> str:
    x1, y1, x2, y2 = a[0] + _WIDTH / 2, a[1] + _HEIGHT, b[0] + _WIDTH / 2, b[1]
    middle = (y1 + y2) / 2
    return f'<path d="M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}" fill="none" stroke="#9ab"/>'
