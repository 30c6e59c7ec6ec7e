"""What a run cost: time, memory, parameters."""

import itertools
import math
import statistics

from lomix_search.experiments.report.charts import COLOURS, ChartAxis, Line, chart
from lomix_search.experiments.report.html_parts import duration, section, tile, tiles
from lomix_search.experiments.report.run_content import RunContent


def trained_seconds(content: RunContent, last_start: float) -> float:
    """Return the time in training: the log's clock where it started once, else time a step × steps."""
    clock = [line.get("train/seconds", 0.0) for line in content.training]
    if all(a <= b for a, b in itertools.pairwise(clock)):
        return last_start
    return step_seconds(content) * content.step


def step_seconds(content: RunContent) -> float:
    """Return the median time of a training step in seconds; NaN where the log holds none."""
    times = [line["train/step_seconds"] for line in content.training if "train/step_seconds" in line]
    return statistics.median(times) if times else math.nan


def cost_section(content: RunContent) -> str:
    """Return the section on time, memory and parameters, HTML; empty before the first logged step."""
    times = [(line["step"], line["train/step_seconds"]) for line in content.training if "train/step_seconds" in line]
    if not times:
        return ""
    seconds = sorted(value for _, value in times)
    most = duration(seconds[int(0.95 * len(seconds))])
    figures = [
        tile("a step, median", duration(statistics.median(seconds)), f"95 % under {most}"),
        tile("all steps", duration(trained_seconds(content, content.training[-1].get("train/seconds", math.nan)))),
    ]
    if content.status and content.status.peak_memory_mib:
        figures.append(tile("peak memory", f"{content.status.peak_memory_mib / 1024:.2f} GiB", "of the whole process"))
    if content.mixture:
        count = sum(t.numel() for t in content.mixture.operators.values())
        figures.append(tile("parameters of operators", f"{count:,}", "in training only"))
    figures.append(tile("at inference", "+0", "operators and weights are gone"))
    milliseconds = [1000 * value for _, value in times]
    line = Line("time", [step for step, _ in times], milliseconds, COLOURS[5])
    drawn = chart(
        "Milliseconds a step",
        [line],
        ChartAxis("step", whole=True),
        ChartAxis(low=0, high=1.1 * sorted(milliseconds)[-1]),
    )
    return section("cost", "Cost", tiles(figures) + drawn)
