"""The runs in a folder: how far each got, and what it scored."""

import difflib
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box

from lomix_search.errors import LomixError, RunError
from lomix_search.experiments.results import read_results
from lomix_search.experiments.status import read_status
from lomix_search.recipe.recipe import in_runs
from lomix_search.training.trackers import read_line
from lomix_search.utils.files import read_json, read_toml
from lomix_search.utils.terminal import Table, plain

_TAIL = 1 << 18


@dataclass(frozen=True)
class RunSummary:
    """A run folder at a glance.

    Args:
        folder: The folder.
        state: running, finished, stopped or failed; ``damaged`` where its files cannot be read.
        step: Steps taken.
        steps: Steps planned; None where that is not known.
        recipe: Name of its recipe.
        metrics: ``val.dice.best``, ``val.dice.final``, ``test.dice.final``, ``test.dice.best``, where they are known.
        when: When it last did something.
        reason: Why it failed, or what is damaged.
    """

    folder: Path
    state: str
    step: int
    steps: int | None
    recipe: str
    metrics: Mapping[str, float]
    when: datetime
    reason: str = ""


def locate_run(what: Path) -> Path:
    """Find what is named: a path as it is, or the name of a folder in ``runs``, where runs go by default.

    Args:
        what: A path, or such a name: ``chest_ct`` for ``runs/chest_ct``.

    Returns:
        The path; ``what`` itself where there is neither. A name in ``runs`` goes before a folder of the same name that
        holds no run, such as that of its recipe.
    """
    named = in_runs(Path("runs") / what) if what.is_dir() and not _of_a_run(what) else in_runs(what)
    return named if named.exists() else what


def find_run(what: Path) -> Path:
    """Find what is named, as :func:`locate_run`.

    Args:
        what: A path, or a name.

    Returns:
        The path, which exists.

    Raises:
        RunError: there is neither.
    """
    found = locate_run(what)
    if not found.exists():
        known = [path.name for path in Path("runs").iterdir()] if Path("runs").is_dir() else []
        close = difflib.get_close_matches(str(what), known, n=1)
        raise RunError(
            f'no run "{what}": neither a path nor a name in runs.',
            hint=close or "lomix runs   # lists what there is",
        )
    return found


def unfinished(folder: Path) -> RunError:
    """Return the error that a folder holds no finished run, with the command that goes on with one that was begun."""
    goes_on = shlex.join(["lomix", "run", str(folder), "--folder", str(folder), "--resume"])
    begun = (folder / "recipe.toml").is_file()
    return RunError(f"{folder} holds no finished run.", hint=goes_on if begun else "lomix runs   # lists what there is")


def _of_a_run(folder: Path) -> bool:
    """Whether a folder is one of a run, a study or a cross-validation, and not one of the same name."""
    return is_run(folder) or any((folder / name).is_file() for name in _OF_RUNS) or (folder / "fold0").is_dir()


_OF_RUNS = ("metrics.jsonl", "mixture.json", "study.json", "journal.log", "compare.json")


def name_in_runs(folder: Path) -> str:
    """Return what names a folder on the command line: the inverse of :func:`locate_run`, where it lies in ``runs``.

    Args:
        folder: Of a run, a study or a cross-validation.

    Returns:
        Its path below the nearest folder called ``runs``; the name of the folder where there is none. No folder of the
        machine is named.
    """
    parts = folder.resolve().parts
    above = [i for i, part in enumerate(parts[:-1]) if part == "runs"]
    return "/".join(parts[above[-1] + 1 :]) if above else parts[-1]


def list_runs(folder: Path) -> list[RunSummary]:
    """Find all runs below a folder.

    Args:
        folder: Where to look, at any depth.

    Returns:
        The runs, the latest first.

    Raises:
        RunError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f'"{folder}" is neither a folder nor a name in runs.', hint="lomix runs FOLDER")
    runs = [summarize_run(found) for found in find_runs(folder)]
    if not runs:
        hint = shlex.join(["lomix", "run", "chest_ct", "--folder", str(folder / "chest_ct")])
        raise RunError(f"{folder} holds no runs.", hint=hint)
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
    """Return whether a folder holds a run, begun or finished."""
    begun = (folder / "metrics.jsonl").is_file() or (folder / "checkpoints").is_dir()
    return (folder / "status.json").is_file() or ((folder / "recipe.toml").is_file() and begun)


def summarize_run(folder: Path) -> RunSummary:
    """Read one run at a glance; the log is not read whole.

    Args:
        folder: The run folder.

    Returns:
        The run; ``damaged`` rather than an error, so that one broken folder hides no other.
    """
    try:
        return _read(folder)
    except (LomixError, ValueError, TypeError, AttributeError) as fault:  # its files may hold anything
        when = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        return RunSummary(folder, "damaged", 0, None, "", {}, when, str(fault).splitlines()[0])


def _read(folder: Path) -> RunSummary:
    status, log = read_status(folder), folder / "metrics.jsonl"
    recipe = read_toml(folder / "recipe.toml", RunError) if (folder / "recipe.toml").exists() else {}
    finished = (folder / "mixture.json").exists()
    state = status.now if status else "finished" if finished else "stopped"
    touched = max(path.stat().st_mtime for path in (folder, log) if path.exists())
    when = datetime.fromisoformat(status.ended) if status and status.ended else datetime.fromtimestamp(touched, UTC)
    planned = recipe.get("search", {}).get("steps")
    steps = None if planned is None else int(planned)
    name, reason = str(recipe.get("name", "")), status.reason if status else ""
    return RunSummary(folder, state, last_step(log), steps, name, metrics_of(folder), when, reason)


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


def metrics_of(folder: Path) -> dict[str, float]:
    """Return a run's scores by name, as ``RunSummary.metrics``: from its mixture, or else from its log."""
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


def runs_table(runs: Sequence[RunSummary], below: Path) -> Table:
    """Lay out runs, one a row.

    Args:
        runs: The runs.
        below: The folder that they were looked for in; names are relative to it.

    Returns:
        The table.
    """
    caption = "Dice: val the best mean on validation, test that of the final network"
    table = Table("run", "state", "step", "val", "test", "when", caption=caption, **_NARROW)
    table.columns[0].overflow = "fold"  # a name that is cut off cannot be typed
    for column in table.columns[1:]:
        column.no_wrap = True
    for run in runs:
        name = run.folder.name if run.folder == below else str(run.folder.relative_to(below))
        name += "" if name.startswith(run.recipe) else f" ({run.recipe})"
        step = str(run.step) if run.steps is None else f"{run.step}/{run.steps}"
        scores = [number_text(key, run.metrics.get(key, math.nan)) for key in ("val.dice.best", "test.dice.final")]
        table.add_row(name, plain((run.state, _COLOURS[run.state])), step, *scores, _when(run.when))
        if run.reason and run.state in ("failed", "damaged"):
            table.add_row(plain((run.reason[:90], "dim")))
    return table


_NARROW: dict[str, Any] = {
    "box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0), "caption_justify": "left",
}  # fmt: skip
_COLOURS = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red", "damaged": "red"}


def _when(moment: datetime) -> str:
    """Write a time as short as it stays clear: without the year where it is this year."""
    local = moment.astimezone()
    return local.strftime("%b %d %H:%M" if local.year == datetime.now().year else "%Y-%m-%d")


def number_text(name: str, value: float) -> str:
    """Write a number of a run, by one rule in all commands.

    Args:
        name: What it is, such as ``val.dice.best``: a Dice has four decimals, a step and a number of steps none, and
            everything else as many as four digits need.
        value: The number.

    Returns:
        The text; – for NaN.
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else f"{value:+}"
    if _COUNTED.search(name):
        return f"{value:.0f}"
    if "dice" in re.split(r"\W+", name.lower()):
        return f"{value:.4f}"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    written = f"{value:.{min(max(digits, 0), 6)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


_COUNTED = re.compile(r"(^|[._])(steps?|parameters)$")
