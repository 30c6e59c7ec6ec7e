"""The found weights as HTML: ranked, over the steps, by operator and subset, and on the graph of the search space."""

import math
from collections.abc import Mapping, Sequence

import networkx as nx

from lomix_search.experiments.report.charts import COLOURS, Axis, Line, chart
from lomix_search.experiments.report.parts import bar, data, number, table, text
from lomix_search.experiments.report.story import Story
from lomix_search.mixture.maps import Map
from lomix_search.mixture.mixture import Mixture

_OUTER, _MIDDLE, _INNER = 372.0, 205.0, 84.0
_GAP = 1.6  # places left free on the ring between two groups


def maps_of(mixture: Mixture) -> list[Map]:
    """Return the maps of a mixture, in the order of its weights."""
    known = {m.id: m for m in mixture.space.maps(mixture.num_maps)}
    return [known[m.id] for m in mixture.maps]


def colour_of(mixture: Mixture) -> dict[str, str]:
    """Return a colour for each operator; originals have the first."""
    kinds = dict.fromkeys(m.operator for m in maps_of(mixture))
    return {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}


def shades(mixture: Mixture) -> dict[str, float]:
    """Return 0 … 1 for each map: the least weight to the greatest; 0.5 where all are equal."""
    weights = mixture.weights
    low, high = min(weights.values()), max(weights.values())
    return {name: (weight - low) / (high - low) if high > low else 0.5 for name, weight in weights.items()}


def written(mixture: Mixture) -> dict[str, str]:
    """Return every weight with as many digits as it takes to see that they differ, three to five."""
    values = mixture.weights.values()
    spread = max(values) - min(values)
    digits = min(5, max(3, math.ceil(1.3 - math.log10(spread)))) if spread > 0 else 3
    return {name: f"{weight:.{digits}f}" for name, weight in mixture.weights.items()}


def trajectories(story: Story, mixture: Mixture) -> str:
    """Draw every map's weight over the steps.

    Args:
        story: The run.
        mixture: What it found.

    Returns:
        HTML; empty where the log holds no weights of these maps.
    """
    lines = [line for line in story.training if len(line.get("mixture/weights", ())) == len(mixture.maps)]
    steps, colours = [line["step"] for line in lines], colour_of(mixture)
    drawn = [
        Line(m.id, steps, [line["mixture/weights"][i] for line in lines], colours[m.operator], _kind(m), m.operator)
        for i, m in enumerate(maps_of(mixture))
    ]
    drawn.sort(key=lambda line: line.kind == "strong")  # originals on top
    return chart("Loss weight of every map", drawn, Axis("step"), Axis(), pick="line")


def _kind(m: Map) -> str:
    return "strong" if m.operator == "original" else "thin"


def heat_map(mixture: Mixture) -> str:
    """Lay out the weights by operator and subset; on a narrow screen subsets run down, else across.

    Args:
        mixture: What was found.

    Returns:
        HTML.
    """
    maps, shade, shown = maps_of(mixture), shades(mixture), written(mixture)
    originals = [m for m in maps if m.operator == "original"]
    mutants = [m for m in maps if m.operator != "original"]
    operators = list(dict.fromkeys(m.operator for m in mutants))
    subsets = sorted({m.scales for m in mutants}, key=lambda s: (len(s), s))
    held = {(m.operator, m.scales): m for m in mutants}
    cells = [_head(_dots(s, mixture.num_maps), 1, i + 2, _spoken(s)) for i, s in enumerate(subsets)]
    for row, operator in enumerate(operators):
        cells.append(_head(text(operator), row + 2, 1))
        for column, subset in enumerate(subsets):
            m = held.get((operator, subset))
            cells.append(_cell(m, shown, shade, row + 2, column + 2) if m else "")
    tall = " tall" if len(subsets) > 14 else ""
    grid = f'<div class="heat{tall}" style="--rows:{len(operators)};--columns:{len(subsets)}">{"".join(cells)}</div>'
    strip = "".join(_original(m, shown, shade, mixture) for m in originals)
    ranked = mixture.ranked()
    low, high = shown[ranked[-1].id], shown[ranked[0].id]
    legend = f'<p class="scale"><span>{low}</span><i></i><span>{high}</span></p>'
    if ranked[0].weight == ranked[-1].weight:
        legend = f'<p class="scale">all weights are {low}</p>'
    above = f'<h4>originals</h4><div class="strip">{strip}</div>' if strip else ""
    below = f'<h4>mutants, by operator and the stages they fuse</h4><div class="scroll">{grid}</div>' if mutants else ""
    return f'<figure class="weights"><figcaption>Weights found</figcaption>{legend}{above}{below}</figure>'


def _original(m: Map, shown: Mapping[str, str], shade: Mapping[str, float], mixture: Mixture) -> str:
    stage = mixture.stages[m.scales[0] - 1].name if mixture.stages else ""
    name = f"{text(m.id)}<small>{text(stage)}</small>"
    return f'<div class="{_heated(shade[m.id])}" style="--t:{shade[m.id]:.3f}"><b>{name}</b>{shown[m.id]}</div>'


def _head(content: str, row: int, column: int, spoken: str = "") -> str:
    label = f' title="{text(spoken)}"' if spoken else ""
    return f'<div class="h" style="--r:{row};--c:{column}"{label}>{content}</div>'


def _cell(m: Map, shown: Mapping[str, str], shade: Mapping[str, float], row: int, column: int) -> str:
    place = f"--r:{row};--c:{column};--t:{shade[m.id]:.3f}"
    return f'<div class="{_heated(shade[m.id])}" style="{place}" title="{text(m.id)}">{shown[m.id]}</div>'


def _heated(shade: float) -> str:
    return "cell hot" if shade > 0.55 else "cell"


def _dots(scales: Sequence[int], count: int) -> str:
    marks = "".join(f'<i class="{"on" if i in scales else ""}"></i>' for i in range(1, count + 1))
    return f'<span class="subset">{marks}</span><span class="digits">{",".join(map(str, scales))}</span>'


def _spoken(scales: Sequence[int]) -> str:
    return "stages " + ", ".join(map(str, scales))


def ranking(mixture: Mixture, top: int = 10) -> str:
    """Return the strongest maps as a table, and all of them behind a fold.

    Args:
        mixture: What was found.
        top: How many to show at once.

    Returns:
        HTML.
    """
    ranked, colours, known = mixture.ranked(), colour_of(mixture), {m.id: m for m in maps_of(mixture)}
    total, most = mixture.concentration().total or 1.0, ranked[0].weight or 1.0
    rows = [
        (
            f'<td class="rank">{place}</td><th scope="row" class="map">{text(m.id)}</th>',
            bar(m.weight / most, colours[known[m.id].operator]),
            f"{m.weight:.4f}",
            f"{m.weight / total:.1%}",
        )
        for place, m in enumerate(ranked, 1)
    ]
    head = ('rank</th><th scope="col">map', "", "weight", "share")
    if len(rows) <= top + 3:
        return table(head, rows, "ranking")
    rest = f"<details><summary>all {len(rows)} maps</summary>{table(head, rows[top:], 'ranking')}</details>"
    return table(head, rows[:top], "ranking") + rest


_PANEL = (
    '<div class="panel"><p class="hint">Point at a map, tap it, or step through them by rank.</p><div class="steps">'
    '<button type="button" data-by="-1" aria-label="stronger map">←</button><output aria-live="polite"></output>'
    '<button type="button" data-by="1" aria-label="weaker map">→</button></div><dl class="told"></dl></div>'
)

# -- the graph ---------------------------------------------------------------------------------------------------------


def graph(mixture: Mixture) -> str:
    """Draw the search space: stages within, operators around them, maps on the outer ring, coloured by weight.

    Args:
        mixture: What was found.

    Returns:
        HTML with an SVG and a panel that tells of the map that is pointed at, tapped or stepped to.
    """
    maps, colours, shade = maps_of(mixture), colour_of(mixture), shades(mixture)
    space = mixture.space.graph(mixture.num_maps, mixture.num_classes)
    place = layout(space, maps)
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
        f'<g class="nodes">{"".join(nodes)}</g></svg></div>{_PANEL}</div>{data(told)}</figure>'
    )


def layout(space: nx.DiGraph, maps: Sequence[Map]) -> dict[str, tuple[float, float]]:
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


# -- the verdict -------------------------------------------------------------------------------------------------------


def verdict(story: Story, mixture: Mixture) -> tuple[str, str, str]:
    """Say whether the weights selected, in the words of the monitor that watched them.

    Args:
        story: The run.
        mixture: What it found.

    Returns:
        ``good``, ``so-so`` or ``bad``; a headline; what lies behind it, HTML.
    """
    spread, count = mixture.concentration(), len(mixture.maps)
    first = next((line for line in story.training if "mixture/total" in line), None)
    numbers = f"{number(spread.effective_maps, 1)} of {count} maps count at the end"
    if first is not None and first["mixture/total"]:
        gone = 1 - spread.total / first["mixture/total"]
        before = number(first.get("mixture/effective_maps"), 1)
        numbers += f" ({before} at the start); {gone:.0%} of the sum of weights is gone"
    if mixture.weighting in ("uniform", "random", "fixed", "anneal"):
        return "so-so", "The weights were set, not searched", f"Weighting {text(mixture.weighting)}: {numbers}."
    if mixture.provenance.warnings:
        return "bad", "The weights shrank without selecting", text(" ".join(mixture.provenance.warnings))
    if spread.effective_maps > 0.95 * count:
        lead = "The monitor raised no alarm, but the weights stay nearly equal: training is almost as with uniform ones"
        return "so-so", "Hardly any selection", f"{lead}. {numbers}."
    return "good", "The weights select", f"{numbers}. The monitor of collapsing weights raised no alarm."
