"""The page of one run: outcome first, then what lies behind it, down to where it came from."""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.environment import Environment
from lomix_search.experiments.report import weights
from lomix_search.experiments.report.charts import COLOURS, Axis, Line, chart, smooth
from lomix_search.experiments.report.parts import bar, duration, facts, number, page, section, table, text, tile, tiles
from lomix_search.experiments.report.slices import viewer
from lomix_search.experiments.report.story import Story
from lomix_search.experiments.results import Scores
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.surroundings import DECISIVE_PACKAGES, Git

_FINAL_BEST = {"final": "final network", "best": "best on validation"}


def run_page(story: Story) -> str:
    """Write the page of a run.

    Args:
        story: What was read of it.

    Returns:
        An HTML document that loads nothing.
    """
    mixture = story.mixture
    sections = {
        "scores": ("Scores", _scores(story)),
        "training": ("Training", _training(story)),
        "weights": ("Weights", _weights(story, mixture) if mixture else ""),
        "graph": ("Space", _graph(mixture) if mixture else ""),
        "predictions": ("Predictions", _predictions(story)),
        "cost": ("Cost", _cost(story)),
        "provenance": ("Provenance", _provenance(story)),
    }
    words = f"{story.title}: a run of lomix_search"
    return page(words, header(story), sections, footer(story.mixture))


# -- outcome -----------------------------------------------------------------------------------------------------------


def header(story: Story) -> str:
    """Return the outcome: one great number, one sentence, a few figures, the verdict on the weights."""
    final = story.tested.get("final")
    best = story.best
    if final:
        shown, what = number(final.mean), "mean test Dice, final network"
    elif best:
        shown, what = number(best["val/dice"]), f"best mean validation Dice so far, at step {best['step']}"
    else:
        shown, what = "–", "nothing scored yet"
    about = f"<p class='about'>{text(story.recipe['about'])}</p>" if story.recipe.get("about") else ""
    return (
        f'<p class="eyebrow">run {text(story.name)} <span class="state {story.state}">{story.state}</span></p>'
        f"<h1>{text(story.title)}</h1>{about}"
        f'<div class="hero"><div class="great"><b>{shown}</b><span>{what}</span></div>{tiles(_figures(story))}</div>'
        f'<p class="lead">{_sentence(story)}</p>{_judged(story)}'
    )


def _figures(story: Story) -> Iterable[str]:
    best, mixture = story.best, story.mixture
    if "best" in story.tested:
        yield tile("best on validation, test Dice", number(story.tested["best"].mean))
    if best:
        yield tile("best validation Dice", number(best["val/dice"]), f"at step {best['step']}")
    if mixture:
        spread, strongest = mixture.concentration(), mixture.ranked()[0]
        yield tile("effective maps", number(spread.effective_maps, 1), f"of {len(mixture.maps)} supervised")
        yield tile("strongest map", f"<code>{text(strongest.id)}</code>", f"weight {strongest.weight:.3f}")
    if story.training:
        seconds = story.training[-1].get("train/seconds", math.nan)
        yield tile("training", duration(_trained_seconds(story, seconds)), f"{story.step:,} steps")
        yield tile("a step", duration(_step_seconds(story)), "median")


def _trained_seconds(story: Story, last_start: float) -> float:
    """Return the time in training: the log's clock where it started once, else time a step × steps."""
    clock = [line.get("train/seconds", 0.0) for line in story.training]
    if all(a <= b for a, b in itertools.pairwise(clock)):
        return last_start
    return _step_seconds(story) * story.step


def _sentence(story: Story) -> str:
    """Say in words what the numbers are of, and what they do not tell."""
    said = []
    if story.state != "finished":
        reason = f": {text(story.status.reason)}" if story.status and story.status.reason else ""
        word = "is running, now" if story.state == "running" else story.state
        said.append(f"This run {word} at step {story.step:,} of {story.steps:,}{reason}.")
    final = story.tested.get("final")
    if final:
        cases = len(final.cases)
        worst = min(story.classes, key=lambda name: _or(final.per_class.get(name), 2.0))
        top = max(story.classes, key=lambda name: _or(final.per_class.get(name), -1.0))
        if len(story.classes) > 1:
            said.append(f"Best is {_scored(top, final)}, worst {_scored(worst, final)}.")
        few = "One case says nothing about others." if cases == 1 else ""
        said.append(f"Scored on {cases} test case{'s' if cases > 1 else ''} that took no part in any choice. {few}")
    return " ".join(said)


def _scored(name: str, scores: Scores) -> str:
    return f"<b>{text(name)}</b> ({number(scores.per_class.get(name))})"


def _judged(story: Story) -> str:
    if story.mixture is None:
        return ""
    kind, title, words = weights.verdict(story, story.mixture)
    return f'<aside class="verdict {kind}"><h3>{text(title)}</h3><p>{words}</p></aside>'


# -- scores ------------------------------------------------------------------------------------------------------------


def _scores(story: Story) -> str:
    if not story.tested and not story.evaluations:
        return ""
    parts = [_per_class(story), _per_case(story)] if story.tested else []
    parts += [_evaluated(name, found) for name, found in story.evaluations.items()]
    lead = "Dice of the test set: 1 is perfect; a structure that is missed, or found where there is none, counts 0."
    return section("scores", "Scores", "".join(parts), lead)


def _per_class(story: Story) -> str:
    names = [name for name in _FINAL_BEST if name in story.tested]
    rows = []
    for i, label in enumerate(story.classes):
        scores = [story.tested[name].per_class.get(label) for name in names]
        rows.append(
            (text(label), bar(_or(scores[0], 0.0), COLOURS[i % len(COLOURS)]), *(number(score) for score in scores))
        )
    means = [story.tested[name].mean for name in names]
    rows.append(("<th scope='row'>mean</th>", bar(_or(means[0], 0.0), "var(--muted)"), *map(number, means)))
    return table(("class", "", *(_FINAL_BEST[name] for name in names)), rows, "per-class total", "Mean of each class")


def _per_case(story: Story) -> str:
    cases = story.tested.get("final", next(iter(story.tested.values()))).cases
    rows = [
        (text(row.get("case", "")), *(_graded(row.get(name)) for name in story.classes), _graded(row.get("mean")))
        for row in sorted(cases, key=lambda row: _or(row.get("mean"), 2.0))
    ]
    caption = f"All {len(cases)} cases, the worst first" if len(cases) > 1 else "The one case"
    return table(("case", *map(text, story.classes), "mean"), rows, "per-case sortable", caption)


def _graded(value: float | str | None) -> str:
    """Return a cell shaded by a score in 0 … 1: the lower, the stronger."""
    known = _or(value, 1.0)
    return f'<td style="--low:{max(0.0, min(1.0, 1 - known)):.3f}" class="graded">{number(value)}</td>'


def _evaluated(name: str, found: Evaluation) -> str:
    measures = [measure for measure in found.measures if not all(np.isnan(list(found.per_class(measure).values())))]
    rows = [
        (text(label), *(number(found.per_class(measure)[label]) for measure in measures)) for label in found.classes
    ]
    rows.append(("mean", *(number(found.mean(measure)) for measure in measures)))
    unit = f", distances in {found.unit}" if any(m in ("hd95", "asd") for m in measures) else ""
    count = "1 whole case" if len(found.cases) == 1 else f"{len(found.cases)} whole cases"
    caption = f"{count} by protocol {text(found.protocol)}, {text(name)} network{unit}"
    return table(("class", *map(text, measures)), rows, "total", caption)


def _or(value: float | str | None, otherwise: float) -> float:
    return otherwise if value is None or isinstance(value, str) or math.isnan(value) else value


# -- training ----------------------------------------------------------------------------------------------------------


def _training(story: Story) -> str:
    steps, loss = [line["step"] for line in story.training], story.series("train/loss")
    drawn = [Line("each step", steps, loss, "var(--muted)", "faint")] if len(steps) > 20 else []
    drawn.append(Line("loss", steps, smooth(loss) if len(steps) > 20 else loss))
    charts = [chart("Training loss, the weighted sum over all maps", drawn, Axis("step"), Axis())]
    at = [line["step"] for line in story.validation]
    lines = [
        Line(name, at, [line.get(f"val/dice/{name}") for line in story.validation], COLOURS[i % 8], "thin")
        for i, name in enumerate(story.classes)
    ]
    lines.append(Line("mean", at, [line["val/dice"] for line in story.validation], "var(--ink)"))
    charts.append(chart("Validation Dice", lines, Axis("step"), Axis(high=1.0)))
    lines = [Line("learning rate", steps, story.series("train/lr"), COLOURS[4])]
    charts.append(chart("Learning rate", lines, Axis("step"), Axis(low=0)))
    lines = [Line("effective maps", steps, story.series("mixture/effective_maps"), COLOURS[2])]
    charts.append(chart("Effective number of maps, exp(entropy)", lines, Axis("step"), Axis(low=0)))
    return section("training", "Training", f'<div class="charts">{"".join(charts)}</div>' if any(charts) else "")


# -- weights and space -------------------------------------------------------------------------------------------------


def _weights(story: Story, mixture: Mixture) -> str:
    body = weights.trajectories(story, mixture) + weights.heat_map(mixture) + weights.ranking(mixture)
    few = f"Found by weighting <code>{text(mixture.weighting)}</code>. "
    few += f"Stage 1 is the coarsest, {mixture.num_maps} the finest."
    if mixture.weighting == "softplus":
        few += " Under the paper’s rule weights can only fall: the order tells more than the size."
    return section("weights", "Weights", body, few)


def _graph(mixture: Mixture) -> str:
    lead = (
        f"Space <code>{text(mixture.space.name)}</code>: stages feed operators, operators make maps. "
        "Darker and larger is a greater weight; each operator has its colour."
    )
    return section("graph", "Search space", weights.graph(mixture), lead)


# -- predictions, cost -------------------------------------------------------------------------------------------------


def _predictions(story: Story) -> str:
    if story.seen is None:
        return ""
    lead = "Test slices as the final network segments them. Drag the slider, or use the arrow keys."
    return section("predictions", "Predictions", viewer(story.seen), lead)


def _step_seconds(story: Story) -> float:
    times = [line["train/step_seconds"] for line in story.training if "train/step_seconds" in line]
    return statistics.median(times) if times else math.nan


def _cost(story: Story) -> str:
    times = [(line["step"], line["train/step_seconds"]) for line in story.training if "train/step_seconds" in line]
    if not times:
        return ""
    seconds = sorted(value for _, value in times)
    most = duration(seconds[int(0.95 * len(seconds))])
    figures = [
        tile("a step, median", duration(statistics.median(seconds)), f"95 % under {most}"),
        tile("all steps", duration(_trained_seconds(story, story.training[-1].get("train/seconds", math.nan)))),
    ]
    if story.status and story.status.peak_memory_mib:
        figures.append(tile("peak memory", f"{story.status.peak_memory_mib / 1024:.2f} GiB", "of the whole process"))
    if story.mixture:
        count = sum(t.numel() for t in story.mixture.operators.values())
        figures.append(tile("parameters of operators", f"{count:,}", "in training only"))
    figures.append(tile("at inference", "+0", "operators and weights are gone"))
    milliseconds = [1000 * value for _, value in times]
    line = Line("time", [step for step, _ in times], milliseconds, COLOURS[5])
    drawn = chart("Milliseconds a step", [line], Axis("step"), Axis(low=0, high=1.1 * sorted(milliseconds)[-1]))
    return section("cost", "Cost", tiles(figures) + drawn)


# -- provenance --------------------------------------------------------------------------------------------------------


def _provenance(story: Story) -> str:
    status, known = story.status, story.environments
    pairs = {
        "recipe": f"<code>{text(story.title)}</code>",
        "seed": text(story.section("search").get("seed", "–")),
    }
    if story.mixture:
        pairs["network"] = text(story.mixture.provenance.network or "–")
        stages = (f"<code>{text(stage.name)}</code>" for stage in story.mixture.stages)
        pairs["stages, coarse to fine"] = ", ".join(stages) or "–"
    if status:
        pairs["started"] = _time(status.started)
        pairs["ended"] = _time(status.ended) if status.ended else "–"
    if known:
        pairs |= _environment(known[-1])
    if len(known) > 1:
        lines = [line for one, other in itertools.pairwise(known) for line in one.differences(other)]
        pairs["resumed elsewhere"] = "<br>".join(map(text, lines))
    if status and status.weights:
        pairs["sha256 of weights"] = "<br>".join(
            f"{text(name)} <code>{text(digest[:16])}…</code>" for name, digest in status.weights.items()
        )
    pairs["again"] = f"<code>lomix reproduce {text(story.name)}</code>"
    folds = [_fold("every setting of the recipe", _settings(story.recipe))]
    if known:
        packages = facts((text(name), text(version)) for name, version in known[-1].packages.items())
        folds.append(_fold(f"all {len(known[-1].packages)} installed packages", f'<div class="many">{packages}</div>'))
    return section("provenance", "Provenance", facts(pairs) + "".join(folds))


def _environment(environment: Environment) -> dict[str, str]:
    versions = [f"{name} {environment.packages[name]}" for name in DECISIVE_PACKAGES if name in environment.packages]
    threads = f"{environment.threads} thread{'s' if environment.threads > 1 else ''}"
    found = {
        "versions": text(", ".join([f"python {environment.python}", *versions])),
        "device": text(f"{environment.device} ({environment.capability}), {threads}, {environment.system}"),
        "loss engine": text(environment.engine),
        "library": _git(environment.library) or "an installed package",
        "project": _git(environment.project) or "not in a git checkout",
    }
    if environment.data:
        of = f"over {text(environment.data.of)}"
        found["data"] = f"{text(environment.data.kind)}: <code>{text(environment.data.sha256[:16])}…</code> {of}"
    return found


def _git(state: Git | None) -> str:
    if state is None:
        return ""
    changed = (
        f" with changes <code>{text((state.changes or '')[:8])}</code> that are not committed" if state.dirty else ""
    )
    return f"commit <code>{text(state.commit[:12])}</code>{changed}"


def _settings(recipe: Mapping[str, Any]) -> str:
    """Return the recipe section by section; of a path only its last part is shown, the page may travel."""
    parts = []
    plain = {key: value for key, value in recipe.items() if not isinstance(value, Mapping)}
    for name, content in {"": plain, **{k: v for k, v in recipe.items() if isinstance(v, Mapping)}}.items():
        if content:
            rows = ((text(key), f"<code>{text(_without_folders(value))}</code>") for key, value in content.items())
            parts.append(f"<h4>{text(f'[{name}]') if name else ''}</h4>{facts(rows)}")
    return "".join(parts)


def _without_folders(value: Any) -> Any:
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return "…/" + PurePath(value.replace("\\", "/")).name
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return {key: _without_folders(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def _time(iso: str) -> str:
    return f"<time datetime='{text(iso)}'>{text(iso.replace('T', ' ').replace('+00:00', ' UTC'))}</time>"


def footer(mixture: Mixture | None) -> str:
    """Return the last words of a page."""
    version = (mixture.provenance.versions.get("lomix_search", "") if mixture else "") or ""
    return f"lomix_search {text(version)} · one file, nothing is loaded from anywhere"
