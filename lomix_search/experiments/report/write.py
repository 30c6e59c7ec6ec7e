"""``lomix report``: one HTML file of a run or of a study."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lomix_search.errors import MissingExtraError, RunError, require
from lomix_search.experiments.listing import flat, is_run, read_run
from lomix_search.experiments.report.run_page import run_page
from lomix_search.experiments.report.story import read_story
from lomix_search.experiments.report.study_page import Study, Trial, study_page
from lomix_search.training.trackers import read_lines
from lomix_search.utils.files import read_toml, write_text

_GOAL = "val.dice.best"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML file: no network, no server, nothing beside it.

    Args:
        folder: A run folder, finished or not, or the folder of a study.
        out: The file to write; ``report.html`` in the folder by default.

    Returns:
        The file.

    Raises:
        RunError: the folder holds neither, or its files are damaged.
    """
    target = out or folder / "report.html"
    if target.suffix != ".html":
        raise RunError(f"{target}: a report is an .html file.", hint=f"--out {target.with_suffix('.html')}")
    is_study = any((folder / name).is_file() for name in ("study.json", "journal.log"))
    page = study_page(read_study(folder)) if is_study else run_page(read_story(folder))
    try:
        write_text(target, page)
    except OSError as cause:
        raise RunError(
            f"{target} cannot be written: {cause.strerror}.", hint=f"lomix report {folder} --out ELSEWHERE/report.html"
        ) from None
    return target


def read_study(folder: Path) -> Study:
    """Read a study; without Optuna, what its run folders tell.

    Args:
        folder: The study's folder.

    Returns:
        All that a page shows of it.

    Raises:
        RunError: no study there, or its storage cannot be reached.
    """
    try:
        return _from_storage(folder)
    except MissingExtraError:
        return _from_folders(folder)


def _from_storage(folder: Path) -> Study:
    require("optuna", "tune")
    from lomix_search.experiments.tune.best import best_trials
    from lomix_search.experiments.tune.plots import importances
    from lomix_search.experiments.tune.storage import open_study
    from lomix_search.experiments.tune.values import decode

    study, recipe = open_study(folder)
    tune = recipe.tune
    found = tuple(_trial(t, partial(decode, tune=tune)) for t in study.trials if "surplus" not in t.user_attrs)
    goals = [(tune.metric, tune.direction == "maximize"), *([(tune.cost, False)] if tune.cost else [])]
    best = tuple(t.number for t in best_trials(study, recipe))
    log = frozenset(key for key, value in tune.ranges.items() if value.log)
    return Study(folder.resolve().name, recipe.name, tuple(goals), found, best, importances(study, recipe), log)


def _trial(trial: Any, decode: Callable[[Any], dict[str, Any]]) -> Trial:
    noted = trial.user_attrs
    try:
        settings = decode(trial.params)
    except KeyError:  # it waits, or has not drawn all yet
        settings = dict(trial.params)
    return Trial(
        trial.number,
        trial.state.name.lower(),
        tuple(trial.values or ()),
        {key: value for key, value in settings.items() if value is not None},
        f"trial_{trial.number:04d}",
        trial.duration.total_seconds() if trial.duration else math.nan,
        _reason(trial.state.name.lower(), noted),
        tuple(sorted(trial.intermediate_values.items())),
    )


def _reason(state: str, noted: Mapping[str, Any]) -> str:
    if "reason" in noted:
        return str(noted["reason"])
    if "over_limit" in noted:
        return f"over its limit: {noted['over_limit']}"
    broken = "its process ended without a word; run again as another trial"
    return "pruned: worse than the others at this point" if state == "pruned" else broken if state == "fail" else ""


def _from_folders(folder: Path) -> Study:
    """Read the run folders of a study's trials; goals and importances are Optuna's to tell."""
    folders = [path for path in sorted(folder.glob("trial_*")) if is_run(path)]
    recipes = [flat(read_toml(path / "recipe.toml", RunError)) for path in folders]
    tried = [k for k in dict.fromkeys(key for r in recipes for key in r) if len({str(r.get(k)) for r in recipes}) > 1]
    trials = []
    for path, recipe in zip(folders, recipes, strict=True):
        run, number = read_run(path), int(path.name.removeprefix("trial_"))
        states = {"finished": "complete", "running": "running"}
        value = run.metrics.get(_GOAL, math.nan) if run.state == "finished" else math.nan
        curve = tuple((line["step"], line["val/dice"]) for line in read_lines(path / "metrics.jsonl") if _scored(line))
        settings = {key: recipe[key] for key in tried if key in recipe and key not in ("name", "about")}
        values = () if math.isnan(value) else (value,)
        state = states.get(run.state, "fail")
        trials.append(Trial(number, state, values, settings, path.name, math.nan, run.reason, curve))
    done = sorted((t for t in trials if t.values), key=lambda t: -t.values[0])
    name = str(recipes[0].get("name", folder.name)) if recipes else folder.name
    best = tuple(t.number for t in done[:1])
    return Study(folder.resolve().name, name, ((_GOAL, True),), tuple(trials), best, {})


def _scored(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("val/dice"), float)
