"""The page of one run: the outcome first, then what lies behind it, down to where it came from."""

from lomix_search.experiments.report.charts import COLOURS, ChartAxis, Line, chart, smooth
from lomix_search.experiments.report.html_parts import page, section, text
from lomix_search.experiments.report.map_effects import effects_section
from lomix_search.experiments.report.run_content import RunContent
from lomix_search.experiments.report.run_cost import cost_section
from lomix_search.experiments.report.run_header import header
from lomix_search.experiments.report.run_provenance import provenance_section
from lomix_search.experiments.report.run_scores import scores_section
from lomix_search.experiments.report.slice_viewer import viewer
from lomix_search.experiments.report.space_graph import space_graph
from lomix_search.experiments.report.weight_charts import heat_map, ranking, trajectories
from lomix_search.mixture.mixture import Mixture


def run_page(content: RunContent) -> str:
    """Write the page of a run.

    Args:
        content: What was read of it.

    Returns:
        An HTML document that loads nothing.
    """
    mixture = content.mixture
    sections = {
        "scores": ("Scores", scores_section(content)),
        "training": ("Training", _training(content)),
        "ranking": ("Ranking", effects_section(content.ranking)),
        "weights": ("Weights", _weights(content, mixture) if mixture else ""),
        "graph": ("Space", _graph(mixture) if mixture else ""),
        "predictions": ("Predictions", _predictions(content)),
        "cost": ("Cost", cost_section(content)),
        "provenance": ("Provenance", provenance_section(content)),
    }
    words = f"{content.title}: a run of lomix_search"
    return page(words, header(content), sections, footer(content.mixture))


def _training(content: RunContent) -> str:
    steps, loss = [line["step"] for line in content.training], content.series("train/loss")
    drawn = [Line("each step", steps, loss, "var(--muted)", "faint")] if len(steps) > 20 else []
    drawn.append(Line("loss", steps, smooth(loss) if len(steps) > 20 else loss))
    charts = [chart("Training loss, the weighted sum over all maps", drawn, ChartAxis("step", whole=True), ChartAxis())]
    at = [line["step"] for line in content.validation]
    lines = [
        Line(name, at, [line.get(f"val/dice/{name}") for line in content.validation], COLOURS[i % 8], "thin")
        for i, name in enumerate(content.classes)
    ]
    lines.append(Line("mean", at, [line["val/dice"] for line in content.validation], "var(--ink)"))
    charts.append(chart("Validation Dice", lines, ChartAxis("step", whole=True), ChartAxis(high=1.0)))
    lines = [Line("learning rate", steps, content.series("train/lr"), COLOURS[4])]
    charts.append(chart("Learning rate", lines, ChartAxis("step", whole=True), ChartAxis(low=0)))
    lines = [Line("effective maps", steps, content.series("mixture/effective_maps"), COLOURS[2])]
    charts.append(
        chart("Effective number of maps, exp(entropy)", lines, ChartAxis("step", whole=True), ChartAxis(low=0))
    )
    return section("training", "Training", f'<div class="charts">{"".join(charts)}</div>' if any(charts) else "")


def _weights(content: RunContent, mixture: Mixture) -> str:
    body = trajectories(content, mixture) + heat_map(mixture) + ranking(mixture)
    few = f"Found by weighting <code>{text(mixture.weighting)}</code>. "
    if content.ranking is not None and len(set(mixture.weights.values())) == 1:
        few = "Held alike to measure with: <code>lomix rank</code> orders the maps by their effect, above. "
    few += f"Stage 1 is the coarsest, {mixture.num_maps} the finest."
    if mixture.weighting == "softplus":
        few += " Under the paper’s rule weights can only fall: the order tells more than the size."
    return section("weights", "Weights", body, few)


def _graph(mixture: Mixture) -> str:
    lead = (
        f"Space <code>{text(mixture.space.name)}</code>: stages feed operators, operators make maps. "
        "Darker and larger is a greater weight; each operator has its colour."
    )
    return section("graph", "Search space", space_graph(mixture), lead)


def _predictions(content: RunContent) -> str:
    if content.seen is None:
        return ""
    lead = "Test slices as the final network segments them. Drag the slider, or use the arrow keys."
    return section("predictions", "Predictions", viewer(content.seen), lead)


def footer(mixture: Mixture | None) -> str:
    """Return the last words of a page."""
    version = (mixture.provenance.versions.get("lomix_search", "") if mixture else "") or ""
    return f"lomix_search {text(version)} · one file, nothing is loaded from anywhere"
