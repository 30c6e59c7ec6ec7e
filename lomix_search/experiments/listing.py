"""Runs as things of their own: what lies in a folder of runs, how far each got, and what tells two of them apart."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Group

from lomix_search.errors import LomixError, MixtureError, RunError
from lomix_search.experiments.environment import read_environments
from lomix_search.experiments.results import read_results
from lomix_search.experiments.status import read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_line, read_lines
from lomix_search.utils.files import read_json, read_toml
from lomix_search.utils.terminal import Table, plain

_TOP = 8
_TAIL = 1 << 18
_NOT_COMPARED = ("name", "about", "track", "tune")


@dataclass(frozen=True)
class Run:
    """A run folder at a glance.

    Args:
        folder: The folder.
        state: running, finished, stopped or failed; ``damaged`` where its files cannot be read.
        step: Steps taken.
        steps: Steps planned; 0 where that is not known.
        recipe: Name of its recipe.
        metrics: ``val.dice.best``, ``val.dice.final``, ``test.dice.final``, ``test.dice.best``, where they are known.
        when: When it last did something.
        reason: Why it failed, or what is damaged.
    """

    folder: Path
    state: str
    step: int
    steps: int
    recipe: str
    metrics: Mapping[str, float]
    when: datetime
    reason: str = ""


def list_runs(folder: Path) -> list[Run]:
    """Find all runs below a folder.

    Args:
        folder: Where to look, at any depth.

    Returns:
        The runs, the latest first.

    Raises:
        RunError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder.", hint="lomix runs FOLDER")
    runs = [read_run(found) for found in find_runs(folder)]
    if not runs:
        raise RunError(f"{folder} holds no runs.", hint=f"lomix run chest_ct --folder {folder / 'chest_ct'}")
    return sorted(runs, key=lambda run: (run.when, str(run.folder)), reverse=True)


def find_runs(folder: Path) -> Iterator[Path]:
    """Find run folders: those with a resolved recipe and a log, or a status."""
    inside = ("checkpoints", "wandb", "tensorboard", "evaluation")  # of runs; nothing to find there
    if is_run(folder):
        yield folder
    try:
        within = sorted(folder.iterdir())
    except PermissionError:  # someone else's, and nothing to list
        return
    for path in within:
        if path.is_dir() and not path.is_symlink() and path.name not in inside and not path.name.startswith("."):
            yield from find_runs(path)


def is_run(folder: Path) -> bool:
    """Say whether a folder holds a run, begun or finished."""
    begun = (folder / "metrics.jsonl").is_file() or (folder / "checkpoints").is_dir()
    return (folder / "status.json").is_file() or ((folder / "recipe.toml").is_file() and begun)


def read_run(folder: Path) -> Run:
    """Read one run at a glance; the log is not read whole.

    Args:
        folder: The run folder.

    Returns:
        The run; ``damaged`` rather than an error, so that one broken folder hides no other.
    """
    try:
        return _read(folder)
    except (LomixError, ValueError, TypeError, AttributeError) as fault:  # whatever its files hold
        when = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        return Run(folder, "damaged", 0, 0, "", {}, when, str(fault).splitlines()[0])


def _read(folder: Path) -> Run:
    status, log = read_status(folder), folder / "metrics.jsonl"
    recipe = read_toml(folder / "recipe.toml", RunError) if (folder / "recipe.toml").exists() else {}
    finished = (folder / "mixture.json").exists()
    state = status.now if status else "finished" if finished else "stopped"
    touched = max(path.stat().st_mtime for path in (folder, log) if path.exists())
    when = datetime.fromisoformat(status.ended) if status and status.ended else datetime.fromtimestamp(touched, UTC)
    steps = int(recipe.get("search", {}).get("steps", 0))
    name, reason = str(recipe.get("name", "")), status.reason if status else ""
    return Run(folder, state, last_step(log), steps, name, _metrics(folder), when, reason)


def last_step(log: Path) -> int:
    """Return the last step in a log, reading no more than its end."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        lines = file.read().splitlines()
    whole = (found for line in reversed(lines) if (found := read_line(line)) is not None)  # cut off at either end
    return int(next(whole, {"step": 0})["step"])


def _metrics(folder: Path) -> dict[str, float]:
    if (folder / "mixture.json").exists():
        provenance = read_json(folder / "mixture.json", RunError).get("provenance", {})
        found = {key: float(value) for key, value in provenance.get("metrics", {}).items()}
    else:
        dice = list(_validations(folder / "metrics.jsonl"))
        found = {"val.dice.best": max(dice), "val.dice.final": dice[-1]} if dice else {}
    for name, scores in read_results(folder).items():
        found[f"test.dice.{name}"] = math.nan if scores.mean is None else scores.mean
    return found


def _validations(log: Path) -> Iterator[float]:
    """Yield the validation scores of a log whose other lines are long, so that these are not parsed."""
    if log.exists():
        with log.open("rb") as file:
            for line in file:
                found = read_line(line) if b'"val/dice": ' in line else None
                if found is not None and isinstance(value := found.get("val/dice"), float):
                    yield value


def runs_table(runs: Sequence[Run], below: Path) -> Table:
    """Lay out runs, one a row.

    Args:
        runs: The runs.
        below: The folder that they were looked for in; names are relative to it.

    Returns:
        The table.
    """
    table = Table("run", "state", "step", "val Dice, best", "test Dice, final", "recipe", "when")
    colours = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red", "damaged": "red"}
    for run in runs:
        name = run.folder.name if run.folder == below else str(run.folder.relative_to(below))
        step = f"{run.step}/{run.steps}" if run.steps else str(run.step)
        scores = [_shown(run.metrics.get(key, math.nan)) for key in ("val.dice.best", "test.dice.final")]
        state = plain((run.state, colours[run.state]))
        when = run.when.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(name, state, step, *scores, run.recipe, when)
        if run.reason and run.state in ("failed", "damaged"):
            table.add_row("", plain((run.reason[:90], "dim")))
    return table


# -- comparing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What tells runs apart.

    Args:
        names: Of the runs.
        settings: Dotted keys of the recipe whose values differ, one value a run; None where a run does not set it.
        metrics: Scores and costs, one a run; NaN where a run has none.
        agreement: For every pair of runs with mixtures: Kendall's τ-b of the weights over the maps both hold, and how
            many of their eight strongest maps they share, as a part; NaN where there is no order.
        environment: What differs between the environment of the first run and that of another, by name of the other.
    """

    names: tuple[str, ...]
    settings: Mapping[str, tuple[Any, ...]]
    metrics: Mapping[str, tuple[float, ...]]
    agreement: Mapping[tuple[str, str], tuple[float, float]]
    environment: Mapping[str, tuple[str, ...]]

    def __rich__(self) -> Group:
        """Lay out what differs, in the order: settings, scores, weights, environment."""
        settings = Table("setting", *self.names, title="settings that differ", title_justify="left")
        for key, values in self.settings.items():
            settings.add_row(key, *("–" if value is None else str(value) for value in values))
        metrics = Table("", *self.names, title="scores and cost", title_justify="left")
        for key, numbers in self.metrics.items():
            metrics.add_row(key, *map(_shown, numbers))
        weights = Table("runs", "", "Kendall τ", f"top {_TOP} shared", title="learned weights", title_justify="left")
        for (one, other), (tau, shared) in self.agreement.items():
            weights.add_row(one, other, _shown(tau), "–" if math.isnan(shared) else f"{shared:.0%}")
        same = [] if self.settings else ["all settings are equal"]
        words = [f"{name}: {line}" for name, lines in self.environment.items() for line in lines]
        told = [plain(f"environment of {word}") for word in words]
        return Group(*([settings] if self.settings else same), metrics, *([weights] if self.agreement else []), *told)


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Compare runs: settings, scores, cost, learned weights, environments.

    Args:
        folders: Two run folders or more.

    Returns:
        What tells them apart.

    Raises:
        RunError: fewer than two, or one is no run folder.
    """
    if len(folders) < 2:
        raise RunError(f"{len(folders)} run given; a comparison needs two.", hint="lomix runs compare RUN RUN")
    if strange := [str(folder) for folder in folders if not is_run(folder)]:
        raise RunError(f"{', '.join(strange)}: no run folder.", hint="lomix runs   # lists them")
    names = _names(folders)
    settings = [flat(read_toml(folder / "recipe.toml", RunError)) for folder in folders]
    keys = [key for key in dict.fromkeys(itertools.chain(*settings)) if key.split(".")[0] not in _NOT_COMPARED]
    rows = {key: tuple(each.get(key) for each in settings) for key in keys}
    facts = [_facts(folder) for folder in folders]
    measured = dict.fromkeys(itertools.chain(*facts))
    return Comparison(
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
    raise RunError(f"{folders[0]} is given twice.", hint="lomix runs compare RUN ANOTHER")


def _facts(folder: Path) -> dict[str, float]:
    status, lines = read_status(folder), read_lines(folder / "metrics.jsonl")
    facts = _metrics(folder)
    tested = read_results(folder).get("final")
    per_class = list(tested.per_class.items())[1:] if tested else []
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
    """Return Kendall's τ-b of two mixtures' weights, and the part of their eight strongest maps that they share."""
    try:
        tau = one.compare(other)
    except MixtureError:  # too few maps in common for an order
        tau = math.nan
    first, second = ({m.id for m in mixture.ranked()[:_TOP]} for mixture in (one, other))
    return tau, math.nan if math.isnan(tau) else len(first & second) / min(len(first), len(second))


def _environments(names: Sequence[str], folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    known = {name: found[-1] for name, f in zip(names, folders, strict=True) if (found := read_environments(f))}
    if len(known) < 2:
        return {}
    first, *others = known
    pairs = {name: tuple(known[first].differences(known[name])) for name in others}
    return {name: lines for name, lines in pairs.items() if lines}


def _has_mixture(folder: Path) -> bool:
    return (folder / "mixture.json").exists()


def _shown(value: float) -> str:
    if math.isnan(value):
        return "–"
    return (
        f"{value:.0f}"
        if value == int(value) and abs(value) >= 2
        else f"{value:.4f}"
        if abs(value) < 10
        else f"{value:.1f}"
    )
