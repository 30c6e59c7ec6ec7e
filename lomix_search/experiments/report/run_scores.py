"""The test scores of a run as tables: by class, by case, and by whole-case evaluation."""

import math

import numpy as np

from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.report.charts import COLOURS
from lomix_search.experiments.report.html_parts import bar, number, section, table, text
from lomix_search.experiments.report.run_content import RunContent

_FINAL_BEST = {"final": "final network", "best": "best on validation"}


def scores_section(content: RunContent) -> str:
    """Return the section with all test scores, HTML; empty where nothing was scored."""
    if not content.tested and not content.evaluations:
        return ""
    parts = [_per_class(content)] if content.tested else []
    parts += [_per_case(content)] if any(len(scores.cases) > 1 for scores in content.tested.values()) else []
    parts += [evaluated(f"{name} network", found) for name, found in content.evaluations.items()]
    lead = "Dice of the test set: 1 is perfect; a structure that is missed, or found where there is none, counts 0."
    return section("scores", "Scores", "".join(parts), lead)


def _per_class(content: RunContent) -> str:
    names = [name for name in _FINAL_BEST if name in content.tested]
    titles = [_FINAL_BEST[name] for name in names]
    if len(names) == 2 and content.tested["final"].cases == content.tested["best"].cases:
        names, titles = ["final"], ["final network, also best on validation"]
    rows = []
    for i, label in enumerate(content.classes):
        scores = [content.tested[name].per_class.get(label) for name in names]
        rows.append(
            (
                text(label),
                bar(known_or(scores[0], 0.0), COLOURS[i % len(COLOURS)]),
                *(number(score) for score in scores),
            )
        )
    means = [content.tested[name].mean for name in names]
    rows.append(("<th scope='row'>mean</th>", bar(known_or(means[0], 0.0), "var(--muted)"), *map(number, means)))
    what = "region" if content.tested[names[0]].multilabel else "class"
    cases = content.tested[names[0]].cases
    caption = f"Mean of each {what}" if len(cases) != 1 else f"The one case, {text(cases[0].get('case', ''))}"
    return table((what, "", *titles), rows, "per-class total", caption)


def _per_case(content: RunContent) -> str:
    cases = content.tested.get("final", next(iter(content.tested.values()))).cases
    rows = [
        (text(row.get("case", "")), *(graded(row.get(name)) for name in content.classes), graded(row.get("mean")))
        for row in sorted(cases, key=lambda row: known_or(row.get("mean"), 2.0))
    ]
    caption = f"All {len(cases)} cases, the worst first"
    return table(("case", *map(text, content.classes), "mean"), rows, "per-case sortable", caption)


def graded(value: float | str | None) -> str:
    """Return a cell shaded by a score in 0 … 1: the lower, the stronger."""
    known = known_or(value, 1.0)
    return f'<td style="--low:{max(0.0, min(1.0, 1 - known)):.3f}" class="graded">{number(value)}</td>'


def measured(value: float, measure: str) -> str:
    """Write a score; a distance with two digits, which is finer than any scan."""
    return number(value, 2 if measure in ("hd95", "asd") else 3)


def evaluated(who: str, found: Evaluation) -> str:
    """Return the table of an evaluation of whole cases by that network, or those, HTML."""
    measures = [measure for measure in found.measures if not all(np.isnan(list(found.per_class(measure).values())))]
    rows = [(text(label), *(measured(found.per_class(m)[label], m) for m in measures)) for label in found.classes]
    rows.append(("mean", *(measured(found.mean(m), m) for m in measures)))
    unit = f", distances in {found.unit}" if any(m in ("hd95", "asd") for m in measures) else ""
    count = "1 whole case" if len(found.cases) == 1 else f"{len(found.cases)} whole cases"
    caption = f"{count} by protocol {text(found.protocol)}, {text(who)}{unit}"
    return table((found.what, *map(text, measures)), rows, "total", caption)


def known_or(value: float | str | None, otherwise: float) -> float:
    """Return a score; ``otherwise`` where it is missing, NaN or no number."""
    return otherwise if value is None or isinstance(value, str) or math.isnan(value) else value
