"""A referee's report for a terminal, as Markdown, as LaTeX for an appendix, and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group

from lomix_search.experiments.audit.outcome import SettingRows, best_is_mean
from lomix_search.experiments.audit.referee import AuditReport
from lomix_search.experiments.compare.verdict import Paired, StrategyRow
from lomix_search.utils.terminal import Table, plain

_MARKS = {"passed": ("passed", "green"), "failed": ("FAILED", "red"), "could not be checked": ("not checked", "yellow")}
_ESCAPED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}
_SYMBOLS = {"±": r"$\pm$", "−": "$-$", "τ": r"$\tau$", "…": r"\dots{}", "×": r"$\times$"}


def audit_to_table(report: AuditReport) -> Group:
    """Lay a report out for a terminal of 80 columns: results, checks, verdict."""
    checks = Table("check", "", "because", title="checks", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for one in report.findings:
        checks.add_row(one.title, plain(_MARKS[one.state]), one.reason)
    checks.columns[0].max_width, checks.columns[1].no_wrap = 20, True
    return Group(_results(report), checks, plain(report.verdict))


def audit_to_markdown(report: AuditReport) -> str:
    """Write a report as Markdown: results, checks, verdict."""
    head, *lines = _cells(report)
    results = "\n".join(_piped(line) for line in (head, ["---"] * len(head), *lines))
    rows = [[one.title, one.state, one.reason] for one in report.findings]
    checks = "\n".join(_piped(line) for line in (["check", "", "because"], ["---"] * 3, *rows))
    return f"{results}\n\n{checks}\n\n{report.verdict}\n"


def audit_to_latex(report: AuditReport) -> str:
    """Write a report as LaTeX tables, to be put into a paper's appendix; needs the package ``booktabs``."""
    head, *lines = _cells(report)
    words = 2 if head[0] == "setting" else 1
    results = _tabular("l" * words + "r" * (len(head) - words), head, lines)
    rows = [[one.title, one.state, one.reason] for one in report.findings]
    checks = _tabular("llp{0.6\\linewidth}", ["check", "", "because"], rows)
    return f"{results}\n{checks}\n{_tex(report.verdict)}\n"


def audit_to_dict(report: AuditReport) -> dict[str, Any]:
    """Return a report for JSON."""
    return {
        "verdict": report.verdict,
        "checks": [
            {"check": one.key, "title": one.title, "state": one.state, "because": list(one.because)}
            for one in report.findings
        ],
        "settings": [
            {
                "setting": table.setting,
                "baseline": table.baseline,
                "methods": [_plain_row(table, r) for r in table.rows],
            }
            for table in report.tables
        ],
    }


def _plain_row(table: SettingRows, row: StrategyRow) -> dict[str, Any]:
    pair = _pair_of(table, row)
    found = {"method": row.strategy, "seeds": _count(table, row), "mean": row.mean, "spread": _spread(table, row)}
    if pair is None:
        return found
    keys = ("difference", "low", "high", "p", "p_holm", "pairs", "patients")
    return found | {key: getattr(pair, key) for key in keys}


def _results(report: AuditReport) -> Table:
    """Lay all settings out in one table, each under its name; what the checks say too is left out here."""
    head, *lines = _cells(report, but=("steps", "s/step"))
    several = head[0] == "setting"
    title = (
        "test scores" if len(report.tables) > 1 else ", ".join(filter(None, ["test scores", report.tables[0].setting]))
    )
    shown = Table(*head[several:], title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    before = None
    for line in lines:
        if len(report.tables) > 1 and line[0] != before:
            shown.add_row(plain((line[0], "bold")))
            before = line[0]
        shown.add_row(f"{'  ' * (len(report.tables) > 1)}{line[several]}", *line[1 + several :])
    shown.columns[0].overflow = "fold"
    for column in shown.columns[1:]:
        column.no_wrap = True
    return shown


def _cells(report: AuditReport, but: Sequence[str] = ()) -> list[list[str]]:
    """Return head and lines of the table of results; columns of which nothing is known are left out."""
    bases = list(dict.fromkeys(table.baseline for table in report.tables))
    minus = f"− {bases[0]} (95 %)" if len(bases) == 1 else "− the first (95 %)"
    head = ["setting", "method", "score", minus, "p", "steps", "s/step", "τ", "n"]
    lines = [[table.setting, *_line(table, row)] for table in report.tables for row in _first(table)]
    needed = (1, 2, *([0] if len(report.tables) > 1 or report.tables[0].setting else []))
    known = [i for i in range(1, len(head)) if any(line[i] != "–" for line in lines) and head[i] not in but]
    kept = sorted({*needed, *known})
    return [[line[i] for i in kept] for line in (head, *lines)]


def _first(table: SettingRows) -> list[StrategyRow]:
    """Return the rows of a setting, the baseline before the others."""
    return sorted(table.rows, key=lambda row: row.strategy != table.baseline)


def _line(table: SettingRows, row: StrategyRow) -> list[str]:
    form = ".2f" if row.mean > 1.5 else ".3f"
    spread, pair = _spread(table, row), _pair_of(table, row)
    score = f"{row.mean:{form}}" + ("" if math.isnan(spread) else f" ± {spread:{form}}")
    entries = [one for one in table.entries if one.method == row.strategy]
    steps = sorted({float(one.facts["steps"]) for one in entries if "steps" in one.facts})
    return [
        row.strategy,
        score,
        _difference(pair, form),
        "–" if pair is None or math.isnan(pair.p_holm) else "<.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}",
        "/".join(f"{value:g}" for value in steps) or "–",
        "–" if math.isnan(row.seconds) else f"{row.seconds:.3g}",
        "–" if math.isnan(row.tau) else f"{row.tau:+.2f}",
        str(_count(table, row) or "?"),
    ]


def _difference(pair: Paired | None, form: str) -> str:
    if pair is None:
        return "–"
    inside = "" if math.isnan(pair.low) else f" ({pair.low:+{form}} … {pair.high:+{form}})"
    return f"{pair.difference:+{form}}{inside}"


def _pair_of(table: SettingRows, row: StrategyRow) -> Paired | None:
    return row.against.get(table.baseline)


def _spread(table: SettingRows, row: StrategyRow) -> float:
    """Return the standard deviation over seeds: computed, or as it was published."""
    published = [one.spread for one in table.entries if one.method == row.strategy and one.spread is not None]
    return published[0] if math.isnan(row.spread) and published else row.spread


def _count(table: SettingRows, row: StrategyRow) -> int | None:
    if not best_is_mean(table, row.strategy) or len(row.dice) > 1:
        return len(row.dice)
    entry = next(one for one in table.entries if one.method == row.strategy)
    return len(row.dice) if entry.repetition else entry.repeats


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _tabular(columns: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top, *body = (f"{' & '.join(map(_tex, line))} \\\\" for line in (head, *lines))
    begin, end = f"\\begin{{tabular}}{{{columns}}}\n\\toprule", "\\bottomrule\n\\end{tabular}"
    return "\n".join([begin, top, "\\midrule", *body, end]) + "\n"


def _tex(text: str) -> str:
    return "".join(_ESCAPED.get(sign) or _SYMBOLS.get(sign) or sign for sign in text)
