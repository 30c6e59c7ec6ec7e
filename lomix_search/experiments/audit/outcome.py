"""What came out: dead classes, collapsed weights, weights that seeds agree on, and differences beyond the noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lomix_search.errors import RunError, nearest, require
from lomix_search.experiments.audit.entry import AuditEntry, by_method, by_setting, to_runs
from lomix_search.experiments.audit.finding import Finding, Reason, in_words, judge
from lomix_search.experiments.compare.verdict import BASELINES, SET_WEIGHTINGS, StrategyRow, agreement, compare_by_seed
from lomix_search.training.silent_classes import SILENT

_DEAD = 0.005  # Dice; what is lower is not learned
_AGREE = 0.5  # Kendall's τ, and the part of the eight strongest maps
_ONE, _EVEN = 1.5, 0.95  # effective maps; part of all maps
_LAST_LAYER = (*BASELINES[:1], "ll", "last", "baseline", *BASELINES[1:], "ds")


@dataclass(frozen=True)
class SettingRows:
    """What one setting says.

    Args:
        setting: Its name; empty where there is one without.
        baseline: What the others are compared with; empty for a single method.
        rows: One a method.
        entries: What they were made of.
    """

    setting: str
    baseline: str
    rows: tuple[StrategyRow, ...]
    entries: tuple[AuditEntry, ...]


def rows_of(entries: Sequence[AuditEntry], baseline: str | None = None) -> list[SettingRows]:
    """Compare the methods of every setting.

    Args:
        entries: All runs, the folds of a seed joined.
        baseline: Method to compare with; else the last layer under one of its usual names, else the first method.

    Returns:
        One table a setting.

    Raises:
        RunError: no method is called so.
    """
    methods = list(by_method(entries))
    if baseline is not None and baseline not in methods:
        raise RunError(f"--baseline {baseline}: no method is called so. {nearest(baseline, methods)}")
    tables = []
    for setting, group in by_setting(entries).items():
        base = _baseline(list(by_method(group)), baseline)
        rows = compare_by_seed(to_runs([one for one in group if not math.isnan(one.score)]), base or None)
        tables.append(SettingRows(setting, base, tuple(rows), tuple(group)))
    return tables


def dead_classes(entries: Sequence[AuditEntry]) -> Finding:
    """Check that every class was learned in every run."""
    scale = 100.0 if max((one.score for one in entries if not math.isnan(one.score)), default=0.0) > 1.5 else 1.0
    failed, unknown = list[Reason](), list[Reason]()
    for one in entries:
        if not one.classes or set(one.classes) == {""}:
            unknown.append(("scores by class are not there", one.setting))
        dead = {name: dice for name, dice in one.classes.items() if dice <= _DEAD * scale}
        failed += [(f"{name} has {dice:.2g} in {one.name}", "") for name, dice in dead.items()]
        if SILENT in str(one.facts.get("warnings", "")):
            failed.append((f"{one.name}: {SILENT}{str(one.facts['warnings']).rpartition(SILENT)[2]}", ""))
    return judge("dead", "no dead class", failed, unknown, "every class was learned in every run")


def collapsed_weights(entries: Sequence[AuditEntry]) -> Finding:
    """Check that weights that were learned did not end on one map, nor stayed equal."""
    failed, unknown, searched = list[Reason](), list[Reason](), 0
    for setting, group in by_setting(entries).items():
        for name, of in by_method(group).items():
            mixtures = [one.mixture for one in of if one.mixture is not None]
            if len(mixtures) < len(of):
                unknown.append(("weights are not there", setting))
            learned = [one for one in mixtures if one.weighting not in SET_WEIGHTINGS and len(one.maps) > 1]
            searched += len(learned)
            spread = [(one, one.concentration().effective_maps) for one in learned]
            alone = [one.ranked()[0].id for one, effective in spread if effective < _ONE]
            even = [len(one.maps) for one, effective in spread if effective > _EVEN * len(one.maps)]
            if alone:
                failed.append((f"{name}: all weight on {in_words(alone)} in {len(alone)} of {len(of)} runs", setting))
            if even:
                failed.append((f"{name}: {even[0]} maps weigh the same in {len(even)} of {len(of)} runs", setting))
    said = f"{searched} mixtures select some maps of many" if searched else "no weights were searched"
    return judge("collapse", "weights select", failed, unknown, said)


def stable_search(entries: Sequence[AuditEntry]) -> Finding:
    """Check that seeds find the same order of maps."""
    failed, unknown, seen = list[Reason](), list[Reason](), list[str]()
    for setting, group in by_setting(entries).items():
        for name, of in by_method(group).items():
            found = [one.mixture for one in of if one.mixture is not None]
            if len(found) < len(of):
                unknown.append(("weights are not there", setting))
            elif found[0].weighting in SET_WEIGHTINGS or len(found[0].maps) < 2:
                continue
            elif len(found) < 2:
                unknown.append((f"{name} has one seed", setting))
            else:
                tau, shared = agreement(found)
                order = "too few maps for an order" if math.isnan(tau) else f"τ {tau:+.2f}"
                said = f"{name}: {order}, {shared:.0%} of the eight strongest maps shared"
                if math.isnan(tau):
                    unknown.append((said, setting))
                elif tau >= _AGREE and shared >= _AGREE:
                    seen.append(said)
                else:
                    failed.append((said, setting))
    return judge("stability", "seeds find the same maps", failed, unknown, in_words(seen) or "no weights were searched")


def beyond_noise(tables: Sequence[SettingRows]) -> Finding:
    """Check that the best method of every setting is above the baseline by more than seeds and patients explain."""
    found: dict[str, list[Reason]] = {"failed": [], "unknown": [], "passed": []}
    for table in tables:
        state, words = _difference(table)
        found[state].append((words, table.setting))
    passed = in_words([words for words, _ in found["passed"]])
    return judge("noise", "the best exceeds the noise", found["failed"], found["unknown"], passed)


def _difference(table: SettingRows) -> tuple[str, str]:
    """Judge the best method of a setting against the baseline; return the state and its words."""
    others = [row for row in table.rows if row.strategy != table.baseline]
    if not others or table.baseline not in others[0].against:
        return "unknown", "there is one method"
    best = max(others, key=lambda row: row.mean)
    if best_is_mean(table, best.strategy):
        return _published(table, best)
    pair = best.against[table.baseline]
    named = f"{best.strategy} − {table.baseline} {pair.difference:+.4g}"
    if pair.pairs < 2 or math.isnan(pair.p_holm):
        return "unknown", f"{named} in {pair.pairs or 'no common'} seed; the noise of seeds is unknown"
    over = f"{pair.pairs} seeds" + (f" and {pair.patients} patients" if pair.patients else "")
    words = f"{named} ({pair.low:+.4g} … {pair.high:+.4g}, p {pair.p_holm:.2g} after Holm, over {over})"
    return ("passed" if pair.p_holm < 0.05 and pair.difference > 0 else "failed"), words


def best_is_mean(table: SettingRows, method: str) -> bool:
    """Say whether a method, or the baseline, is there as a published mean rather than seed by seed."""
    return any(not one.repetition for one in table.entries if one.method in (method, table.baseline))


def _published(table: SettingRows, best: StrategyRow) -> tuple[str, str]:
    """Judge a difference of published means by what spread is said."""
    one, base = (next(e for e in table.entries if e.method == name) for name in (best.strategy, table.baseline))
    difference = one.score - base.score
    named = f"{one.method} − {base.method} {difference:+.4g}"
    spreads = [entry.spread for entry in (one, base) if entry.spread is not None]
    if not spreads:
        return "unknown", f"{named}: no spread over seeds is published"
    if difference <= max(spreads):
        return "failed", f"{named} is not above the spread over seeds of {max(spreads):.3g}"
    if len(spreads) == 2 and min(one.repeats or 0, base.repeats or 0) > 1:
        p = _welch(one, base)
        words = f"{named}: p {p:.2g} by Welch's t from means and spreads; seeds cannot be paired"
        return ("failed" if p >= 0.05 else "unknown"), words
    who = one.method if one.spread is not None else base.method
    return "unknown", f"{named} is above {max(spreads):.3g}, the spread of {who} alone; an interval needs seeds of both"


def _welch(one: AuditEntry, base: AuditEntry) -> float:
    test = require("scipy.stats", "data").ttest_ind_from_stats
    of = (one.score, one.spread, one.repeats, base.score, base.spread, base.repeats)
    return float(test(*of, equal_var=False).pvalue)


def _baseline(methods: Sequence[str], asked: str | None) -> str:
    if len(methods) < 2:
        return ""
    if asked in methods:
        return str(asked)
    plain: Mapping[str, str] = {name.lower().replace(" ", "_"): name for name in reversed(methods)}
    return next((plain[name] for name in _LAST_LAYER if name in plain), methods[0])
