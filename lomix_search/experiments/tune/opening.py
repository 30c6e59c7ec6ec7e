"""Studies in a storage: made, joined by more workers, or opened to be read."""

import difflib
import json
import secrets
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from lomix_search.errors import RunError
from lomix_search.experiments.tune.samplers import PerTrial, build_pruner
from lomix_search.experiments.tune.storage import JOURNAL, StudyStorage, read_storage
from lomix_search.recipe.recipe import Recipe, in_runs
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.schema import Frozen, build_typed

_NOTE = "study.json"


_PATIENCE = 10.0  # seconds to wait for the process that made a study to describe it


_FREE = ("about", "track", "tune.trials", "tune.patience", "tune.target")  # may change while a study goes on


class _Note(Frozen):
    """``study.json``: the study's name and where it lives."""

    study: str
    storage: str


def join_study(
    recipe: Recipe, place: StudyStorage, name: str, folder: Path, say: Callable[[str], object] = warnings.warn
) -> tuple[optuna.Study, bool]:
    """Make a study, or join it if it exists.

    Args:
        recipe: What it tunes.
        place: Where it lives.
        name: Its name.
        folder: The study's folder on this machine, which notes where the study lives.
        say: As for ``StudyStorage.open``.

    Returns:
        The study, and whether it was made.

    Raises:
        RunError: the study there is of another recipe.
    """
    storage = place.open(say)
    sampler, pruner = PerTrial(recipe), build_pruner(recipe)
    directions: list[Any] = [recipe.tune.direction, *(["minimize"] if recipe.tune.cost else [])]
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=directions, sampler=sampler, pruner=pruner
        )
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        _check_same(recipe, _described(study, place), name, place)
        made = False
    else:
        study.set_user_attr("settings", settings_of(recipe))
        study.set_user_attr("recipe", recipe.to_toml())
        study.set_user_attr("group", f"study-{secrets.token_hex(4)}")
        made = True
    elsewhere = str(place.journal.absolute()) if place.journal else str(place)
    note = {"study": name, "storage": JOURNAL if _inside(place, folder) else elsewhere}
    write_text(folder / _NOTE, json.dumps(note, indent=2) + "\n")
    return study, made


def open_study(where: str | Path, name: str | None = None) -> tuple[optuna.Study, Recipe]:
    """Open a study to read it.

    Args:
        where: A study's folder or its name in ``runs``, a journal file or a database address.
        name: The study's name; needed where there are several.

    Returns:
        The study, and the recipe it tunes.

    Raises:
        RunError: no study there, or one that this library did not make.
    """
    place, noted = _noted(where)
    storage = place.open()
    known = [summary.study_name for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)]
    chosen = name or noted or (known[0] if len(known) == 1 else None)
    if chosen not in known:
        what = "several studies" if chosen is None and known else f'no study "{chosen}"' if chosen else "no study"
        raise RunError(f"{place} holds {what}.", seen=known, hint="--study NAME" if known else ())
    study = optuna.load_study(study_name=chosen, storage=storage)
    if "recipe" not in study.user_attrs:
        raise RunError(
            f'the study "{chosen}" in {place} was not made by lomix tune.',
            hint="lomix tune RECIPE --storage … --study ANOTHER",
        )
    recipe = build_typed(Recipe, tomllib.loads(study.user_attrs["recipe"]), f'the study "{chosen}"', RunError)
    return study, recipe


def _noted(where: str | Path) -> tuple[StudyStorage, str | None]:
    if "://" in str(where):
        return read_storage(str(where), Path(where)), None
    path = in_runs(Path(where))
    if not path.is_dir():
        if not path.is_file():
            known = sorted(str(note.parent) for note in Path("runs").glob(f"*/{_NOTE}"))
            close = difflib.get_close_matches(f"{where}-tune", [Path(one).name for one in known], n=1)
            raise RunError(
                f'no study "{where}": neither a folder, nor a journal file, nor a name in runs.',
                seen=f"studies in runs: {', '.join(known[:8])}" if known else "no study in runs",
                hint=[*close, "lomix tune RECIPE   # starts one"],
            )
        return StudyStorage(path, None), None
    if (path / _NOTE).is_file():
        note = build_typed(_Note, read_json(path / _NOTE, RunError), str(path / _NOTE), RunError)
        beside = "://" not in note.storage and not Path(note.storage).is_absolute()
        return read_storage(path / note.storage if beside else note.storage, path), note.study
    if not (path / JOURNAL).is_file():
        raise RunError(f"{path} holds no study.", hint="lomix tune RECIPE --folder FOLDER")
    return StudyStorage(path / JOURNAL, None), None


def settings_of(recipe: Recipe) -> dict[str, str]:
    """Return what all workers of a study must agree on: dotted keys and values; of paths the last part only."""
    content = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    flat = dict(_flat(content, ""))
    return {key: value for key, value in flat.items() if not key.startswith(_FREE)}


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [item for k, v in value.items() for item in _flat(v, f"{key}.{k}" if key else k)]
    if isinstance(value, str) and Path(value.partition(":")[0]).is_absolute():
        return [(key, Path(value).name)]
    return [(key, json.dumps(value))]


def _described(study: optuna.Study, place: StudyStorage) -> dict[str, str]:
    """Wait for the process that has just made the study to describe it."""
    until = time.monotonic() + _PATIENCE
    while "settings" not in (attrs := study.user_attrs):
        if time.monotonic() > until:
            raise RunError(f'the study "{study.study_name}" in {place} was not made by lomix tune.', hint=_OTHER)
        time.sleep(0.2)
    return dict(attrs["settings"])


_OTHER = ["--study ANOTHER_NAME", "--folder ANOTHER_FOLDER"]


def _check_same(recipe: Recipe, before: dict[str, str], name: str, place: StudyStorage) -> None:
    now = settings_of(recipe)
    different = [
        f"{key}: {before.get(key, 'not set')} there, {now.get(key, 'not set')} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if different:
        raise RunError(f'the study "{name}" in {place} is of another recipe.', seen=different[:6], hint=_OTHER)


def _inside(place: StudyStorage, folder: Path) -> bool:
    return place.journal is not None and place.journal.absolute() == folder.absolute() / JOURNAL
