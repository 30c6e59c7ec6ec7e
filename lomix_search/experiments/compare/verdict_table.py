"""The verdict on strategies as a table in the terminal, as Markdown and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lomix_search.experiments.compare.verdict import BASELINES, Paired, StrategyRow
from lomix_search.utils.terminal import Table


def to_table(rows: Sequence[StrategyRow]) -> Table:
    """Lay the verdict out as a table."""
    bases = baselines_of(rows)
    table = Table(*_head(bases), title="test Dice of the final networks")
    for row in rows:
        table.add_row(*_cells(row, bases))
    return table


def to_markdown(rows: Sequence[StrategyRow]) -> str:
    """Write the verdict as Markdown."""
    head = _head(bases := baselines_of(rows))
    lines = [head, ["---"] * len(head), *(_cells(row, bases) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def to_json(rows: Sequence[StrategyRow]) -> str:
    """Write the verdict as JSON; NaN becomes null."""
    return json.dumps([_plain(asdict(row)) for row in rows], indent=2) + "\n"


def baselines_of(rows: Sequence[StrategyRow]) -> list[str]:
    """Name the baselines that were run beside something else."""
    return [name for name in BASELINES if any(name in row.against for row in rows)]


def _head(bases: Sequence[str]) -> list[str]:
    minus = [f"− {name.replace('_', ' ')}" for name in bases]
    return ["labels", "strategy", "mean ± spread", *minus, "s/step", "τ", "top 8 shared", "n"]


def _cells(row: StrategyRow, bases: Sequence[str]) -> list[str]:
    pairs = [_pair(row.against.get(name)) for name in bases]
    stable = [_number(row.tau, "+.2f"), _number(row.overlap, ".0%")]
    mean = f"{row.mean:.4f} ± {_number(row.spread, '.4f')}"
    return [f"{row.labels:g}", row.strategy, mean, *pairs, f"{row.seconds:.3f}", *stable, str(len(row.dice))]


def _pair(pair: Paired | None) -> str:
    if pair is None:
        return "–"
    if math.isnan(pair.low):
        return f"{pair.difference:+.4f}"
    return f"{pair.difference:+.4f} ({pair.low:+.4f} … {pair.high:+.4f}, p {pair.p:.2g})"


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
