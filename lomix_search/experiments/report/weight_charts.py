"""The found weights as HTML: ranked, over the steps, by operator and subset, and on the graph of the search space."""

from collections.abc import Mapping, Sequence

from lomix_search.experiments.figures import maps_of, written
from lomix_search.experiments.report.charts import COLOURS, ChartAxis, Line, chart
from lomix_search.experiments.report.html_parts import lean, table, text
from lomix_search.experiments.report.run_content import RunContent
from lomix_search.mixture.maps import Map
from lomix_search.mixture.mixture import Mixture
from lomix_search.utils.terminal import telling_digits


def colour_of(mixture: Mixture) -> dict[str, str]:
    """Return a colour for each operator; originals have the first."""
    kinds = dict.fromkeys(m.operator for m in maps_of(mixture))
    return {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}


def shades(mixture: Mixture) -> dict[str, float]:
    """Return 0 … 1 for each map: the least weight to the greatest; 0.5 where all are equal."""
    weights = mixture.weights
    low, high = min(weights.values()), max(weights.values())
    return {name: (weight - low) / (high - low) if high > low else 0.5 for name, weight in weights.items()}


def trajectories(content: RunContent, mixture: Mixture) -> str:
    """Draw every map's weight over the steps.

    Args:
        content: The run.
        mixture: What it found.

    Returns:
        HTML; empty where the log holds no weights of these maps.
    """
    lines = [line for line in content.training if len(line.get("mixture/weights", ())) == len(mixture.maps)]
    steps, colours = [line["step"] for line in lines], colour_of(mixture)
    drawn = [
        Line(m.id, steps, [line["mixture/weights"][i] for line in lines], colours[m.operator], _kind(m), m.operator)
        for i, m in enumerate(maps_of(mixture))
    ]
    drawn.sort(key=lambda line: line.kind == "strong")  # originals on top
    return chart("Loss weight of every map", drawn, ChartAxis("step", whole=True), ChartAxis(), pick="line")


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


_ALIKE = 1e-9  # of the mean weight


def _heated(shade: float) -> str:
    return "cell hot" if shade > 0.55 else "cell"


def _dots(scales: Sequence[int], count: int) -> str:
    marks = "".join(f'<i class="{"on" if i in scales else ""}"></i>' for i in range(1, count + 1))
    return f'<span class="subset">{marks}</span><span class="digits">{",".join(map(str, scales))}</span>'


def _spoken(scales: Sequence[int]) -> str:
    return "stages " + ", ".join(map(str, scales))


def ranking(mixture: Mixture, top: int = 10) -> str:
    """Return the strongest maps as a table, and all of them behind a fold.

    A bar leans to the right where a map weighs more than the mean of all maps, to the left where it weighs less; the
    map that is farthest from the mean has the longest.

    Args:
        mixture: What was found.
        top: How many to show at once.

    Returns:
        HTML.
    """
    ranked, colours, known = mixture.ranked(), colour_of(mixture), {m.id: m for m in maps_of(mixture)}
    total, shown = mixture.concentration().total or 1.0, written(mixture)
    mean = total / len(ranked)
    beyond = [m.weight / mean - 1 for m in ranked]
    farthest = max(map(abs, beyond))
    if farthest < _ALIKE:
        return '<p class="lead">All maps have the same weight: there is no order among them.</p>'
    digits, share_digits = telling_digits(beyond, 3), telling_digits([m.weight / total for m in ranked], 3)
    rows = [
        (
            f'<td class="rank">{place}</td><th scope="row" class="map">{text(m.id)}</th>',
            lean(more / farthest, colours[known[m.id].operator]),
            f"{more:+.{digits - 2}%}",
            shown[m.id],
            f"{m.weight / total:.{share_digits - 2}%}",
        )
        for place, (m, more) in enumerate(zip(ranked, beyond, strict=True), 1)
    ]
    head = ('rank</th><th scope="col">map', "against the mean", "", "weight", "share")
    if len(rows) <= top + 3:
        return table(head, rows, "ranking")
    rest = f"<details><summary>all {len(rows)} maps</summary>{table(head, rows[top:], 'ranking')}</details>"
    return table(head, rows[:top], "ranking") + rest
