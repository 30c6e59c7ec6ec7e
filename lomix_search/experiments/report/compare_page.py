"""The page of a comparison: the whole verdict with every baseline, validation over the training, and the referee."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from lomix_search.experiments.audit.referee import AuditReport, audit_paths
from lomix_search.experiments.compare.strategy_run import StrategyRun, read_runs
from lomix_search.experiments.compare.verdict import StrategyRow
from lomix_search.experiments.compare.verdict_table import (
    baselines_of,
    pair_in_words,
    read_verdict,
    share_of,
    verdict_note,
)
from lomix_search.experiments.report.charts import COLOURS, ChartAxis, Line, chart
from lomix_search.experiments.report.html_parts import number, page, section, table, text


def is_comparison(folder: Path) -> bool:
    """Return whether a folder holds the verdict of a comparison."""
    return (folder / "compare.json").is_file()


def compare_page(folder: Path) -> str:
    """Write the page of a comparison.

    Args:
        folder: Of ``lomix compare``.

    Returns:
        An HTML document that loads nothing.

    Raises:
        RunError: its verdict or a run of it is damaged.
    """
    rows = read_verdict(folder / "compare.json")
    told = {(row.strategy, row.labels) for row in rows}
    runs = read_runs(folder, list(dict.fromkeys(row.strategy for row in rows)))
    runs = [run for run in runs if (run.strategy, run.labels) in told]
    report = audit_paths([folder])
    sections = {
        "verdict": ("Verdict", _verdict(rows)),
        "curves": ("Curves", _curves(runs)),
        "audit": ("Audit", _audit(report)),
    }
    name = folder.resolve().name
    header = f'<p class="eyebrow">comparison</p><h1>{text(name)}</h1><p class="lead">{text(report.verdict)}</p>'
    foot = "lomix_search · one file, nothing is loaded from anywhere"
    return page(f"{name}: a comparison of lomix_search", header, sections, foot)


def _verdict(rows: Sequence[StrategyRow]) -> str:
    bases = baselines_of(rows)
    head = ["strategy", "mean", "±", *(f"− {text(base)}" for base in bases), "s/step", "τ", "top 8 shared", "n"]
    tables = []
    for part in dict.fromkeys(row.labels for row in rows):
        cells = [_cells(row, bases) for row in rows if row.labels == part]
        tables.append(table(head, cells, caption=text(f"test Dice of the final networks, {share_of(part)}")))
    return section("verdict", "Verdict", "".join(tables), text(verdict_note(rows, next(iter(bases), None))))


def _cells(row: StrategyRow, bases: Sequence[str]) -> list[str]:
    pairs = [pair_in_words(row.against.get(base), "<br><small>", "</small>") for base in bases]
    shared = "–" if math.isnan(row.overlap) else f"{row.overlap:.0%}"
    own = [text(row.strategy), number(row.mean, 4), number(row.spread, 4)]
    return [*own, *pairs, number(row.seconds), number(row.tau, 2), shared, str(len(row.dice))]


def _curves(runs: Sequence[StrategyRun]) -> str:
    """Draw validation Dice by step, the mean over the seeds, a chart for each part of the labels."""
    parts = sorted({run.labels for run in runs if run.curve})
    shown = "".join(
        chart(f"validation Dice, {share_of(part)}", lines, ChartAxis("step", whole=True), ChartAxis())
        for part in parts
        if (lines := list(_lines([run for run in runs if run.labels == part])))
    )
    return section("curves", "Curves", f'<div class="charts">{shown}</div>' if shown else "", "Mean over the seeds.")


def _lines(runs: Sequence[StrategyRun]) -> Iterator[Line]:
    for place, name in enumerate(dict.fromkeys(run.strategy for run in runs)):
        curves = [run.curve for run in runs if run.strategy == name and run.curve]
        steps = sorted(set.intersection(*map(set, curves))) if curves else []
        means = [sum(curve[step] for curve in curves) / len(curves) for step in steps]
        if steps:
            yield Line(name, steps, means, COLOURS[place % len(COLOURS)], group=name)


def _audit(report: AuditReport) -> str:
    rows = [[text(one.title), text(one.state), text(one.reason)] for one in report.findings]
    return section("audit", "Audit", table(["check", "", "because"], rows, "told"), text(report.verdict))
