"""Folders of this library as what a referee audits: runs, comparisons, cross-validations, or a folder of these."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.kinds.prepared import PreparedSettings, splits_of
from lomix_search.errors import LomixError, RunError
from lomix_search.evaluation.score_table import Evaluation, read_evaluation
from lomix_search.experiments.audit.entry import AuditEntry, Fact
from lomix_search.experiments.compare.strategy_run import CaseDice, StrategyRun, read_runs, read_strategy_run
from lomix_search.experiments.compare.verdict_table import read_verdict, share_of
from lomix_search.experiments.environment import read_environments
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.scored_folds import is_cross_validation
from lomix_search.experiments.listing import find_runs
from lomix_search.experiments.results import read_results
from lomix_search.experiments.run_differences import flat
from lomix_search.utils.files import read_toml

_OF_THE_METHOD = ("space", "weighting")
_OF_NO_RESULT = ("name", "about", "note", "track", "tune", "evaluate")
_OF_THE_RUN = ("search.seed", "search.label_fraction", "data.label_fraction", "data.fold", "search.workers",
               "search.checkpoint_every", "search.other_data")  # fmt: skip


def read_audit_folder(folder: Path) -> list[AuditEntry]:
    """Read the runs in a folder.

    Args:
        folder: Of a run, a comparison, a cross-validation, or one that holds such folders.

    Returns:
        One entry a run; of a comparison whose runs are gone, one a seed of its verdict.

    Raises:
        RunError: there is nothing that could be audited, or a file is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder and no CSV file.", hint="lomix runs   # lists runs")
    if is_cross_validation(folder):
        return [_folds(folder)]
    if runs := read_runs(folder, _order(folder)):
        several = len({run.labels for run in runs}) > 1
        return [_of_comparison(run, share_of(run.labels) if several or run.labels < 1 else "") for run in runs]
    if (folder / "compare.json").is_file():
        return _of_verdict(folder / "compare.json")
    found = [one for one in find_runs(folder) if (one / "results.json").is_file()]
    if not found:
        raise RunError(
            f"{folder} holds no finished run with test scores, no comparison and no cross-validation.",
            hint=["lomix audit runs/my-compare", "lomix audit table.csv"],
        )
    return _named([_entry(read_strategy_run(one, "", 1.0, 0)) for one in found])


def _order(folder: Path) -> list[str]:
    path = folder / "compare.json"
    return list(dict.fromkeys(row.strategy for row in read_verdict(path))) if path.is_file() else []


def _of_comparison(run: StrategyRun, setting: str) -> AuditEntry:
    return replace(_entry(run), method=run.strategy, setting=setting, repetition=str(run.seed))


def _of_verdict(path: Path) -> list[AuditEntry]:
    """Return the scores by seed of a verdict alone; nothing else is known of its runs."""
    return [
        AuditEntry(row.strategy, share_of(row.labels), str(number), dice)
        for row in read_verdict(path)
        for number, dice in enumerate(row.dice, 1)
    ]


def _entry(run: StrategyRun) -> AuditEntry:
    """Return what a run folder says of its run."""
    folder, recipe = _folder(run), read_toml(_folder(run) / "recipe.toml", RunError)
    keys = flat(recipe)
    search, mixture = recipe.get("search", {}), run.mixture
    steps = mixture.provenance.steps if mixture else None
    facts: dict[str, Fact | None] = {
        "steps": None if steps is None else float(steps),
        "batch": _number(search.get("batch_size")),
        "seconds_a_step": None if math.isnan(run.seconds) else run.seconds,
        "seconds": None if steps is None or math.isnan(run.seconds) else run.seconds * steps,
        "lr": _number(keys.get("optimizer.lr")),
        "checkpoint": "last",
        "data": next((one.data.sha256[:12] for one in read_environments(folder)[-1:] if one.data), None),
        "method of the recipe": _method(keys),
        "warnings": " ".join(mixture.provenance.warnings) if mixture else None,
    }
    best = read_results(folder).get("best")
    return AuditEntry(
        run.strategy,
        "" if (share := _share(keys)) == 1.0 else share_of(share),
        str(search.get("seed", "")),
        run.dice,
        tested=run.tested,
        best=None if best is None else best.mean,
        facts={key: value for key, value in facts.items() if value is not None},
        settings=_shared(keys),
        patients=_patients(recipe),
        fold=str(keys.get("data.fold", "")),
        mixture=mixture,
        curve=run.curve,
    )


def _folder(run: StrategyRun) -> Path:
    assert run.folder is not None
    return run.folder


def _shared(keys: Mapping[str, Any]) -> dict[str, object]:
    """Keep the keys that runs of different methods and seeds must share."""
    apart = (*_OF_THE_METHOD, *_OF_NO_RESULT)
    return {key: value for key, value in keys.items() if key.split(".")[0] not in apart and key not in _OF_THE_RUN}


def _method(keys: Mapping[str, Any]) -> str:
    """Name a method by its space and weighting."""
    space, weighting = keys.get("space.name", "lomix"), keys.get("weighting.name", "softplus")
    own = ",".join(f"{key.partition('.')[2]}={value}" for key, value in keys.items() if key.startswith("weighting."))
    own = ",".join(part for part in own.split(",") if part and not part.startswith("name="))
    return f"{Path(str(space)).stem}, {weighting}" + (f"({own})" if own else "")


def _named(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    return [replace(entry, method=str(entry.facts["method of the recipe"])) for entry in entries]


def _folds(folder: Path) -> AuditEntry:
    """Return a cross-validation as one entry: every case scored once, out of its fold."""
    places = [place for place in fold_runs(folder) if (place / "recipe.toml").is_file()]
    recipes = [read_toml(place / "recipe.toml", RunError) for place in places]
    keys = flat(recipes[0])
    tested = _cases(read_evaluation(folder)) if (folder / "scores.csv").is_file() else None
    splits = [_patients(recipe) for recipe in recipes]
    held = [split.get("val", frozenset()) for split in splits]
    shared = {p for i, one in enumerate(held) for other in held[:i] for p in one & other}
    score = math.nan if tested is None else float(np.nanmean(np.nanmean(tested.dice, 0)))
    patients = {f"fold {i}": one for i, one in enumerate(held) if one} if not shared else {"twice": frozenset(shared)}
    facts: dict[str, Fact] = {"checkpoint": "last"}
    return AuditEntry(
        _method(keys),
        repetition=str(keys.get("search.seed", "")),
        score=score,
        tested=tested,
        facts=facts | {"folds": float(len(places))},
        settings=_shared(keys),
        patients=patients,
    )


def _cases(found: Evaluation) -> CaseDice:
    owner = {row.case: row.patient for row in found.rows}
    measure = "dice" if "dice" in found.measures else found.measures[0]
    return CaseDice(found.cases, tuple(owner[c] for c in found.cases), found.classes, found.matrix(measure))


def _patients(recipe: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return who is in which set, where the prepared data still lie where the recipe says; else nothing."""
    data = dict(recipe.get("data", {}))
    if data.pop("kind", "") != "prepared":
        return {}
    try:
        manifest, split = splits_of(PreparedSettings.model_validate(data))
    except (LomixError, ValueError, OSError):  # moved, or prepared anew in another form
        return {}
    owner = {case.name: case.patient for case in manifest.cases}
    sets = {"train": split.train, "val": split.val, "test": split.test}
    return {name: frozenset(owner[case] for case in cases) for name, cases in sets.items() if cases}


def _share(keys: Mapping[str, Any]) -> float:
    """Return the part of the labels: the search keeps its part of what the data keep."""
    parts = [_number(keys.get(key)) for key in ("search.label_fraction", "data.label_fraction")]
    return math.prod(part for part in parts if part is not None)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
