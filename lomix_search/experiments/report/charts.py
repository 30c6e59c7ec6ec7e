"""Charts as SVG that stretches to any width, with labels in HTML that keep their size; a script adds a cross-hair."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lomix_search.experiments.report.html_parts import json_script, text

COLOURS = tuple(f"var(--c{i})" for i in range(8))


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: What it shows.
        x: Ascending.
        y: As many; None leaves a gap.
        colour: CSS colour.
        kind: ``strong``, ``thin``, ``faint`` (not named in the legend), or ``dots``.
        group: Lines of one group share one entry of the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str = COLOURS[0]
    kind: str = "strong"
    group: str = ""


@dataclass(frozen=True)
class ChartAxis:
    """An axis.

    Args:
        name: What it shows.
        low: Its lower end at most; None lets the data decide.
        high: Its upper end at least.
        log: A logarithmic axis.
        whole: What it counts comes in whole numbers, such as steps: there are no halves to write.
    """

    name: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False


def chart(title: str, lines: Sequence[Line], x: ChartAxis, y: ChartAxis, pick: str = "x") -> str:
    """Draw lines.

    Args:
        title: Above the chart.
        lines: At least one with a value.
        x: The horizontal axis.
        y: The vertical axis.
        pick: What the cross-hair picks: ``x`` reads all lines at one place, ``line`` the nearest line.

    Returns:
        HTML; empty without a value to draw.
    """
    xs = [value for line in lines for value in line.x]
    ys = [v for line in lines for v in line.y if v is not None and math.isfinite(v)]
    if not xs or not ys:
        return ""
    margin = 0.04 if any(line.kind == "dots" for line in lines) else 0.0
    across, up = _scale(xs, x, 6, margin), _scale(ys, y, 5, margin)
    drawn = "".join(_drawn(line, across, up) for line in lines)
    grid = "".join(f'<line x1="0" x2="1000" y1="{v:.1f}" y2="{v:.1f}"/>' for v in (1000 - up(t) for t in up.ticks))
    grid += '<polyline class="axes" points="0,0 0,1000 1000,1000"/>'
    left = "".join(f'<span style="bottom:{up(t) / 10:.2f}%">{text(up.label(t))}</span>' for t in up.ticks)
    below = "".join(f'<span style="left:{across(t) / 10:.2f}%">{text(across.label(t))}</span>' for t in across.ticks)
    spoken = f"{title}: {x.name or 'x'} from {across.label(min(xs))} to {across.label(max(xs))}"
    return (
        f'<figure class="chart" data-pick="{pick}"><figcaption>{text(title)}</figcaption>{_legend(lines)}'
        f'<div class="plot" style="--widest:{max(len(up.label(t)) for t in up.ticks)}"><div class="ys">{left}</div>'
        f'<div class="area" tabindex="0" role="img" aria-label="{text(spoken)}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true"><g class="grid">{grid}</g>'
        f'{drawn}<line class="hair" y1="0" y2="1000" x1="-9" x2="-9"/></svg></div>'
        f'<div class="xs">{below}</div></div><div class="below"><span class="axis">{text(x.name)}</span>'
        f'<output class="readout" aria-live="polite"></output></div>{_values(lines, across, up, x.name)}</figure>'
    )


def smooth(values: Sequence[float | None], share: float = 0.06) -> list[float | None]:
    """Average each value with its neighbours on both sides.

    Args:
        values: In order; None is passed over.
        share: Width of the window, as a part of the whole.

    Returns:
        As many values.
    """
    half, found = max(1, round(len(values) * share / 2)), []
    for i in range(len(values)):
        window = [v for v in values[max(0, i - half) : i + half + 1] if v is not None]
        found.append(sum(window) / len(window) if window else None)
    return found


class _Scale:
    """Turns values into 0 … 1000 along an axis with round ticks."""

    def __init__(self, low: float, high: float, log: bool, count: int, margin: float, whole: bool = False) -> None:
        self.log = log
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        wider = margin * (self.high - self.low)
        self.low, self.high = self.low - wider, self.high + wider
        self.ticks = _round_powers(self.low, self.high) if log else _round_ticks(self.low, self.high, count, whole)
        first, last = self.ticks[0], self.ticks[-1]
        if log:
            first, last = math.log10(first), math.log10(last)
        elif low >= 0 > first:  # what counts from 0 has no ticks below
            first, self.ticks = self.low, self.ticks[1:]
        self.low, self.high = first, last  # at ticks, so that no line runs where nothing is written

    def __call__(self, value: float) -> float:
        placed = math.log10(value) if self.log else value
        return 1000 * (placed - self.low) / (self.high - self.low)

    def label(self, value: float) -> str:
        size = abs(value)
        if size >= 1e5 or (0 < size < 1e-3):
            return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
        step = min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=1) if not self.log else 0
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
        return f"{value:.{digits}f}" if step else f"{value:g}"


def _scale(values: Sequence[float], axis: ChartAxis, count: int, margin: float) -> _Scale:
    low, high = min(values), max(values)
    low = low if axis.low is None else min(low, axis.low)
    high = high if axis.high is None else max(high, axis.high)
    return _Scale(low, high, axis.log and low > 0, count, margin, whole=axis.whole)


def _round_ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    rough = max((high - low) / count, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _round_powers(low: float, high: float) -> list[float]:
    """Return powers of ten around two exponents; of fewer than three decades also their doubles and fives."""
    if high - low >= 2:
        return [10.0**e for e in range(math.floor(low + 1e-9), math.ceil(high - 1e-9) + 1)]
    fine = [m * 10.0**e for e in range(math.floor(low) - 1, math.ceil(high) + 1) for m in (1, 2, 5)]
    first = max(v for v in fine if math.log10(v) <= low + 1e-9)
    last = min(v for v in [*fine, 10.0 ** (math.ceil(high) + 1)] if math.log10(v) >= high - 1e-9)
    return [v for v in fine if first <= v <= last]


def _drawn(line: Line, across: _Scale, up: _Scale) -> str:
    """Return a path with gaps where values are missing, or dots."""
    path, pen = [], "M"
    for a, b in zip(line.x, line.y, strict=True):
        if b is None or not math.isfinite(b):
            pen = "M"
            continue
        path.append(f"{pen}{across(a):.1f} {1000 - up(b):.1f}" + ("h0" if line.kind == "dots" else ""))
        pen = "M" if line.kind == "dots" else "L"
    lone = " lone" if len(path) == 1 and line.kind != "dots" else ""
    path += ["h0"] if lone else []
    return f'<path class="{line.kind}{lone}" style="stroke:{line.colour}" d="{"".join(path)}"/>'


def _legend(lines: Sequence[Line]) -> str:
    entries = {line.group or line.name: line for line in lines if line.kind != "faint"}
    if len(entries) < 2:
        return ""
    found = (
        f'<li class="{line.kind}"><i style="background:{line.colour}"></i>{text(name)}</li>'
        for name, line in entries.items()
    )
    return f'<ul class="legend">{"".join(found)}</ul>'


def _values(lines: Sequence[Line], across: _Scale, up: _Scale, name: str) -> str:
    """Return what the cross-hair reads: places in the plot and values, both rounded."""
    series = []
    for line in lines:
        known = [(a, b) for a, b in zip(line.x, line.y, strict=True) if b is not None and math.isfinite(b)]
        if line.kind == "faint" or not known:
            continue
        series.append(
            {
                "name": line.name,
                "colour": line.colour,
                "x": [float(f"{a:.6g}") for a, _ in known],
                "y": [float(f"{b:.4g}") for _, b in known],
                "px": [round(across(a), 1) for a, _ in known],
                "py": [round(1000 - up(b), 1) for _, b in known],
            }
        )
    return json_script({"axis": name, "series": series})
