"""What tells runs apart: settings, scores, cost, learned weights and environments, side by side."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from lomix_search.errors import MixtureError, RunError
from lomix_search.experiments.environment import read_environments
from lomix_search.experiments.listing import is_run, last_step, metrics_of, number_text
from lomix_search.experiments.results import read_results
from lomix_search.experiments.status import read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_lines
from lomix_search.utils.files import read_toml
from lomix_search.utils.terminal import Table, plain

_TOP, _WHOLE = 8, 36
_NOT_COMPARED = ("name", "about", "track", "tune")


@dataclass(frozen=True)
class RunDifferences:
    """What tells runs apart.

    Args:
        names: Of the runs.
        settings: Dotted keys of the recipe whose values differ, one value a run; None where a run does not set it.
        metrics: Scores and costs, one a run; NaN where a run has none.
        agreement: For every pair of runs with mixtures: Kendall's τ-b of the weights over the maps both hold, and how
            many of their eight strongest maps they share, as a part; NaN where there is no order.
        environment: By name of another run: how its environment differs from that of the first run.
    """

    names: tuple[str, ...]
    settings: Mapping[str, tuple[Any, ...]]
    metrics: Mapping[str, tuple[float, ...]]
    agreement: Mapping[tuple[str, str], tuple[float, float]]
    environment: Mapping[str, tuple[str, ...]]

    def __rich__(self) -> Group:
        """Lay out what differs, in the order: settings, scores, weights, environment."""
        settings = Table("setting", *self.names, title="settings that differ", title_justify="left")
        for column in settings.columns:
            column.overflow = "fold"  # what differs may stand at the end
        settings.columns[0].no_wrap = max(map(len, self.settings), default=0) <= _WHOLE  # values go on before keys do
        for key, values in self.settings.items():
            settings.add_row(key, *_told_apart(values))
        metrics = Table("", *self.names, title="scores and cost", title_justify="left")
        for key, numbers in self.metrics.items():
            metrics.add_row(key, *(number_text(key, value) for value in numbers))
        weights = Table("runs", "", "Kendall τ", f"top {_TOP} shared", title="learned weights", title_justify="left")
        for (one, other), (tau, shared) in self.agreement.items():
            alike = ["–" if math.isnan(tau) else f"{tau:+.2f}", "–" if math.isnan(shared) else f"{shared:.0%}"]
            weights.add_row(one, other, *alike)
        same = [] if self.settings else ["all settings are equal"]
        words = [f"{name}: {line}" for name, lines in self.environment.items() for line in lines]
        told = [plain(f"environment of {word}") for word in words]
        return Group(*([settings] if self.settings else same), metrics, *([weights] if self.agreement else []), *told)


def _told_apart(values: Sequence[Any]) -> list[str]:
    """Write the values of a setting, numbers with as few digits as tell them apart."""
    short = ["–" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
    return short if len(set(short)) == len(set(map(str, values))) else [str(v) for v in values]


def differences_to_dict(found: RunDifferences) -> dict[str, Any]:
    """Return them for JSON; pairs of runs as lists of two names."""
    return {
        "runs": list(found.names),
        "settings": {key: list(values) for key, values in found.settings.items()},
        "metrics": {key: list(values) for key, values in found.metrics.items()},
        "weights": [
            {"runs": list(pair), "kendall_tau": tau, f"top_{_TOP}_shared": shared}
            for pair, (tau, shared) in found.agreement.items()
        ],
        "environment": {name: list(lines) for name, lines in found.environment.items()},
    }


def tell_apart(folders: Sequence[Path]) -> RunDifferences:
    """Compare runs: settings, scores, cost, learned weights, environments.

    Args:
        folders: Two run folders or more.

    Returns:
        What tells them apart.

    Raises:
        RunError: fewer than two are given, or one is not a run folder.
    """
    if len(folders) < 2:
        raise RunError(f"{len(folders)} run given; a comparison needs two.", hint="lomix diff RUN RUN")
    if strange := [str(folder) for folder in folders if not is_run(folder)]:
        raise RunError(f"{', '.join(strange)}: no run folder.", hint="lomix runs   # lists them")
    names = _names(folders)
    settings = [flat(read_toml(folder / "recipe.toml", RunError)) for folder in folders]
    keys = [key for key in dict.fromkeys(itertools.chain(*settings)) if key.split(".")[0] not in _NOT_COMPARED]
    rows = {key: tuple(each.get(key) for each in settings) for key in keys}
    facts = [_facts(folder) for folder in folders]
    measured = dict.fromkeys(itertools.chain(*facts))
    return RunDifferences(
        tuple(names),
        {key: values for key, values in rows.items() if any(value != values[0] for value in values)},
        {key: tuple(each.get(key, math.nan) for each in facts) for key in measured},
        _agreements(names, folders),
        _environments(names, folders),
    )


def flat(table: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested tables as one, by dotted key."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with as many parents as it takes to tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    longest = max(map(len, parts))
    for depth in range(1, longest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise RunError(f"{folders[0]} is given twice.", hint="lomix diff RUN ANOTHER")


def _facts(folder: Path) -> dict[str, float]:
    status, lines = read_status(folder), read_lines(folder / "metrics.jsonl")
    facts = metrics_of(folder)
    tested = read_results(folder).get("final")
    per_class = list(tested.foreground.items()) if tested else []
    facts |= {f"test.dice.final, {name}": math.nan if value is None else value for name, value in per_class}
    facts["steps"] = float(last_step(folder / "metrics.jsonl"))
    seconds = [line["train/step_seconds"] for line in lines if "train/step_seconds" in line]
    if seconds:
        facts["seconds a step"] = statistics.median(seconds)
    if status and status.peak_memory_mib:
        facts["peak memory, MiB"] = status.peak_memory_mib
    effective = [line["mixture/effective_maps"] for line in lines if "mixture/effective_maps" in line]
    return facts | ({"effective maps": effective[-1]} if effective else {})


def _agreements(names: Sequence[str], folders: Sequence[Path]) -> dict[tuple[str, str], tuple[float, float]]:
    held = {n: Mixture.load(f / "mixture.json") for n, f in zip(names, folders, strict=True) if _has_mixture(f)}
    return {(one, other): weights_agree(held[one], held[other]) for one, other in itertools.combinations(held, 2)}


def weights_agree(one: Mixture, other: Mixture) -> tuple[float, float]:
    """Return Kendall's τ-b of two mixtures' weights, and the part of their eight strongest maps that they share.

    τ is NaN where too few maps are in both for an order.
    """
    try:
        tau = one.compare(other)
    except MixtureError:  # too few maps in common for an order
        tau = math.nan
    first, second = ({m.id for m in mixture.ranked()[:_TOP]} for mixture in (one, other))
    return tau, len(first & second) / min(len(first), len(second))


def _environments(names: Sequence[str], folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    known = {name: found[-1] for name, f in zip(names, folders, strict=True) if (found := read_environments(f))}
    if len(known) < 2:
        return {}
    first, *others = known
    pairs = {name: tuple(known[first].differences(known[name])) for name in others}
    return {name: lines for name, lines in pairs.items() if lines}


def _has_mixture(folder: Path) -> bool:
    return (folder / "mixture.json").exists()
