"""The graph of the search space, coloured by the found weights."""

import math
from collections.abc import Mapping, Sequence

import networkx as nx

from lomix_search.experiments.figures import maps_of
from lomix_search.experiments.report.charts import COLOURS
from lomix_search.experiments.report.html_parts import json_script, text
from lomix_search.experiments.report.weight_charts import colour_of, shades
from lomix_search.mixture.maps import Map
from lomix_search.mixture.mixture import Mixture

_OUTER, _MIDDLE, _INNER = 372.0, 205.0, 84.0
_GAP = 1.6  # places left free on the ring between two groups
_PANEL = (
    '<div class="panel"><p class="hint">Point at a map, tap it, or step through them by rank.</p><div class="steps">'
    '<button type="button" data-by="-1" aria-label="stronger map">←</button><output aria-live="polite"></output>'
    '<button type="button" data-by="1" aria-label="weaker map">→</button></div><dl class="told"></dl></div>'
)


def space_graph(mixture: Mixture) -> str:
    """Draw the search space: stages within, operators around them, maps on the outer ring, coloured by weight.

    Args:
        mixture: What was found.

    Returns:
        HTML with an SVG and a panel that tells of the map that is pointed at, tapped or stepped to.
    """
    maps, colours, shade = maps_of(mixture), colour_of(mixture), shades(mixture)
    space = mixture.space.graph(mixture.num_maps, mixture.num_classes)
    place = ring_layout(space, maps)
    edges = [_edge(a, b, place, colours, shade) for a, b in space.edges if a in place and b in place]
    nodes = [_map(m, place[m.id], colours, shade, len(maps)) for m in maps]
    nodes += [_operator(kind, place[kind], colours[kind]) for kind in colours if kind in place]
    nodes += [_stage(i, place[f"stage {i}"]) for i in range(1, mixture.num_maps + 1)]
    names = [stage.name for stage in mixture.stages]
    ranks = {m.id: rank for rank, m in enumerate(mixture.ranked(), 1)}
    total = mixture.concentration().total or 1.0
    told = [
        {
            "id": m.id, "operator": m.operator, "scales": list(m.scales), "rank": ranks[m.id],
            "members": [f"stage {s}" + (f" ({names[s - 1]})" if names else "") for s in m.scales],
            "weight": f"{mixture.weights[m.id]:.4f}", "share": f"{mixture.weights[m.id] / total:.1%}",
            "at": [round(v, 1) for v in place[m.id]],
        }
        for m in maps
    ]  # fmt: skip
    crowded = " crowded" if len(maps) > 90 else ""
    label = 0 if crowded else max(len(m.id) for m in maps)
    reach = round(_OUTER + 32 + 8.2 * label)
    return (
        f'<figure class="graph{crowded}"><figcaption>The search space, coloured by weight</figcaption>'
        f'<div class="pair"><div class="frame"><svg role="img" style="--zoom:{reach / (_OUTER + 30):.3f}" '
        f'viewBox="{-reach} {-reach} {2 * reach} {2 * reach}" aria-label="search space of {len(maps)} maps">'
        f'<g class="edges">{"".join(edges)}</g>'
        f'<g class="nodes">{"".join(nodes)}</g></svg></div>{_PANEL}</div>{json_script(told)}</figure>'
    )


def ring_layout(space: nx.DiGraph, maps: Sequence[Map]) -> dict[str, tuple[float, float]]:
    """Place stages, operators and maps on three rings, the first map on top, clockwise.

    Args:
        space: Its nodes ``stage N``, operators and maps.
        maps: Those that are shown, group by group.

    Returns:
        (x, y) by node, y downwards; operators that no map uses are left out.
    """
    ring: list[str] = []
    for before, m in zip([None, *maps], maps, strict=False):
        if before is not None and before.operator != m.operator:
            ring += [f"gap {m.operator} {i}" for i in range(max(1, round(_GAP * len(maps) / 48)))]
        ring.append(m.id)
    ring += [f"gap {i}" for i in range(max(1, round(_GAP * len(maps) / 48)))]
    place = _circle(ring, _OUTER)
    operators = dict.fromkeys(m.operator for m in maps if m.operator in space)
    for kind in operators:
        of_kind = [place[m.id] for m in maps if m.operator == kind]
        angle = math.atan2(sum(y for _, y in of_kind), sum(x for x, _ in of_kind))
        place[kind] = (_MIDDLE * math.cos(angle), _MIDDLE * math.sin(angle))
    stages = [node for node, kind in space.nodes(data="kind") if kind == "stage"]
    return place | _circle(stages, _INNER if len(stages) > 1 else 0.0)


def _circle(names: Sequence[str], radius: float) -> dict[str, tuple[float, float]]:
    """Place names on a circle by networkx, turned so that the first is on top and the rest follow clockwise."""
    if len(names) == 1:
        return {names[0]: (0.0, -radius)}
    found = nx.circular_layout(names, scale=radius)  # type: ignore[no-untyped-call]
    return {name: (float(y), float(-x)) for name, (x, y) in found.items()}


def _edge(
    a: str, b: str, place: Mapping[str, tuple[float, float]], colours: Mapping[str, str], shade: Mapping[str, float]
) -> str:
    (x1, y1), (x2, y2) = place[a], place[b]
    if b not in shade:  # from a stage to an operator
        return f'<path class="feed" data-a="{text(a)}" data-b="{text(b)}" d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}"/>'
    bend = 0.62 if a in colours else 0.5
    middle = f"{x2 * bend:.0f} {y2 * bend:.0f}"
    colour = colours.get(a, colours.get("original", COLOURS[0]))
    style = f"stroke:{colour};--t:{shade[b]:.3f}"
    path = f"M{x1:.0f} {y1:.0f}Q{middle} {x2:.0f} {y2:.0f}"
    return f'<path class="arm" data-a="{text(a)}" data-b="{text(b)}" style="{style}" d="{path}"/>'


def _map(m: Map, at: tuple[float, float], colours: Mapping[str, str], shade: Mapping[str, float], count: int) -> str:
    x, y = at
    radius = min(1.0, 48 / count) * (7 + 8 * shade[m.id])
    angle = math.degrees(math.atan2(y, x))
    outward = f"rotate({angle:.1f}) translate({math.hypot(x, y) + 24:.0f} 0)"
    flip, anchor = (" rotate(180)", "end") if abs(angle) > 90 else ("", "start")
    return (
        f'<g class="map" data-id="{text(m.id)}" style="--t:{shade[m.id]:.3f};--own:{colours[m.operator]}">'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
        f'<text transform="{outward}{flip}" text-anchor="{anchor}" dy=".35em">{text(m.id)}</text></g>'
    )


def _operator(kind: str, at: tuple[float, float], colour: str) -> str:
    width = 20 + 9.5 * len(kind)
    return (
        f'<g class="operator" data-id="{text(kind)}" style="--own:{colour}" '
        f'transform="translate({at[0]:.1f} {at[1]:.1f})"><rect x="{-width / 2:.0f}" y="-17" width="{width:.0f}" '
        f'height="34" rx="17"/><text text-anchor="middle" dy=".35em">{text(kind)}</text></g>'
    )


def _stage(scale: int, at: tuple[float, float]) -> str:
    return (
        f'<g class="stage" data-id="stage {scale}" transform="translate({at[0]:.1f} {at[1]:.1f})">'
        f'<rect x="-21" y="-21" width="42" height="42" rx="9"/><text text-anchor="middle" dy=".35em">{scale}</text></g>'
    )
