"""The verdict on strategies as tables: in a terminal of 80 columns, and whole as Markdown, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich import box
from rich.console import Group

from lomix_search.errors import RunError
from lomix_search.experiments.compare.strategy_run import StrategyRun
from lomix_search.experiments.compare.verdict import BASELINES, Paired, StrategyRow
from lomix_search.utils.files import read_bytes
from lomix_search.utils.terminal import Table, plain


def to_table(rows: Sequence[StrategyRow], baseline: str | None = None) -> Group:
    """Lay the verdict out for a terminal: one table for each part of the labels, 80 columns wide.

    Args:
        rows: The verdict.
        baseline: What to compare with; the first of ``baselines_of`` when left out.

    Returns:
        The tables, and one sentence on how to read them.
    """
    base = baseline or next(iter(baselines_of(rows)), None)
    parts = dict.fromkeys(row.labels for row in rows)
    tables = [_short([row for row in rows if row.labels == part], base) for part in parts]
    return Group(*tables, plain(verdict_note(rows, base)))


def to_markdown(rows: Sequence[StrategyRow], baseline: str | None = None) -> str:
    """Write the whole verdict as Markdown: all baselines, p-values, cost and agreement.

    Args:
        rows: The verdict.
        baseline: The one to come first.

    Returns:
        A table, and how to read it.
    """
    head = _head(bases := baselines_of(rows, baseline))
    lines = [head, ["---"] * len(head), *(_cells(row, bases) for row in rows)]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{verdict_note(rows, next(iter(bases), None))}\n"
    )


def to_json(rows: Sequence[StrategyRow]) -> str:
    """Write the verdict as JSON; NaN becomes null."""
    return json.dumps([_plain(asdict(row)) for row in rows], indent=2) + "\n"


def read_verdict(path: Path) -> list[StrategyRow]:
    """Read the ``compare.json`` of a comparison, also of earlier versions.

    Args:
        path: The file.

    Returns:
        The verdict.

    Raises:
        RunError: it cannot be read, or is no verdict.
    """
    content = read_bytes(path, RunError, 2**26)
    try:
        rows: list[StrategyRow] = TypeAdapter(list[StrategyRow]).validate_python(_with_nan(json.loads(content)))
    except (ValueError, RecursionError) as cause:
        seen = " ".join(str(cause).split())[:200]
        raise RunError(f"{path} holds no verdict of lomix compare.", seen=seen, hint="lomix compare RECIPE") from None
    return rows


def cases_to_csv(runs: Sequence[StrategyRun]) -> str:
    """Write the test score of every case and class of every run, one a line.

    Args:
        runs: The runs; those without scores by case are left out.

    Returns:
        Columns strategy, seed, labels, case, patient, class, dice; dice is empty where there was nothing to score.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["strategy", "seed", "labels", "case", "patient", "class", "dice"])
    for run in runs:
        if (of := run.tested) is not None:
            for case, patient, scores in zip(of.cases, of.patients, of.dice.tolist(), strict=True):
                for name, dice in zip(of.classes, scores, strict=True):
                    value = "" if math.isnan(dice) else repr(dice)
                    writer.writerow([run.strategy, run.seed, f"{run.labels:g}", case, patient, name, value])
    return out.getvalue()


def share_of(labels: float) -> str:
    """Name a part of the training items."""
    return "all training items" if labels == 1 else f"{100 * labels:.3g} % of the training items"


def verdict_note(rows: Sequence[StrategyRow], base: str | None) -> str:
    """Say what intervals and p-values against a baseline are over."""
    pairs = [row.against[base] for row in rows if base in row.against] if base else []
    if not pairs:
        return "n: seeds; ±: standard deviation over them."
    patients, seeds = {pair.patients for pair in pairs}, _range([pair.pairs for pair in pairs])
    family = max(sum(base in row.against for row in rows if row.labels == part) for part in {r.labels for r in rows})
    over = f"{seeds} seed{'s' * (seeds != '1')}"
    if 0 in patients:
        over += " alone: scores by patient are not there, or not of the same patients in all runs"
    else:
        over += f" and {_range(sorted(patients))} patient{'s' * (patients != {1})}"
    corrected = f" p is corrected for {family} comparisons (Holm)." if family > 1 else ""
    return (
        f"n: seeds; ±: standard deviation over them. Differences to {base} are paired by seed and patient; 95 % "
        f"intervals and p are over {over}.{corrected}"
    )


def baselines_of(rows: Sequence[StrategyRow], first: str | None = None) -> list[str]:
    """Name the baselines that were run beside something else, the chosen one first."""
    names = dict.fromkeys([*([first] if first else []), *BASELINES])
    return [name for name in names if any(name in row.against for row in rows)]


def _short(rows: Sequence[StrategyRow], base: str | None) -> Table:
    minus = [f"− {base} (95 %)", "p"] if base else []
    title = f"test Dice of the final networks, {share_of(rows[0].labels)}"
    table = Table(
        "strategy",
        "mean ± spread",
        *minus,
        "τ",
        "n",
        title=title,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for row in rows:
        pair = row.against.get(base or "")
        cells = [_brief(pair), _chance(pair.p_holm if pair else math.nan)] if base else []
        mean = f"{row.mean:.3f} ± {_number(row.spread, '.3f')}"
        table.add_row(row.strategy, mean, *cells, _number(row.tau, "+.2f"), str(len(row.dice)))
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    return table


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _head(bases: Sequence[str]) -> list[str]:
    minus = [f"− {name.replace('_', ' ')}" for name in bases]
    return ["labels", "strategy", "mean ± spread", *minus, "s/step", "τ", "top 8 shared", "n"]


def _cells(row: StrategyRow, bases: Sequence[str]) -> list[str]:
    pairs = [pair_in_words(row.against.get(name)) for name in bases]
    stable = [_number(row.tau, "+.2f"), _number(row.overlap, ".0%")]
    mean = f"{row.mean:.4f} ± {_number(row.spread, '.4f')}"
    return [f"{row.labels:g}", row.strategy, mean, *pairs, f"{row.seconds:.3f}", *stable, str(len(row.dice))]


def _brief(pair: Paired | None) -> str:
    if pair is None:
        return "–"
    inside = "" if math.isnan(pair.low) else f" ({pair.low:+.3f} … {pair.high:+.3f})"
    return f"{pair.difference:+.3f}{inside}"


def _chance(p: float) -> str:
    return "–" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}"


def pair_in_words(pair: Paired | None, before: str = " (", after: str = ")") -> str:
    """Write a difference, and between two texts its interval and p, where these are known."""
    if pair is None:
        return "–"
    if math.isnan(pair.low):
        return f"{pair.difference:+.4f}"
    return f"{pair.difference:+.4f}{before}{pair.low:+.4f} … {pair.high:+.4f}, p {pair.p_holm:.2g}{after}"


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nan(inner) for key, inner in value.items()}
    return [_with_nan(inner) for inner in value] if isinstance(value, list) else math.nan if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
