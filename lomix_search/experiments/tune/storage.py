"""Where a study lives: a journal file beside its runs, or a database that machines share."""

import json
import random
import secrets
import time
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna

from lomix_search.errors import LomixError, MissingExtraError, RunError
from lomix_search.experiments.tune.journal import Journal
from lomix_search.experiments.tune.retry import patient
from lomix_search.experiments.tune.samplers import PerTrial, build_pruner
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.schema import Frozen, build_typed

JOURNAL = "journal.log"
_NOTE = "study.json"
_PATIENCE = 10.0  # seconds to wait for the process that made a study to describe it
_GRACE = 4  # heartbeats missed before a trial counts as broken off
_FREE = ("about", "track", "tune.trials", "tune.patience", "tune.target")  # may change while a study goes on
_T = TypeVar("_T")


class _Note(Frozen):
    """``study.json``: the study's name and where it lives."""

    study: str
    storage: str


@dataclass(frozen=True)
class StudyStorage:
    """A storage.

    Args:
        journal: The journal file; None for a database.
        url: The database; None for a journal file.
        heartbeat: Seconds between two signs of life of a worker; databases only.
    """

    journal: Path | None
    url: str | None
    heartbeat: int = 30

    def __str__(self) -> str:
        """Return how a user names it, without the password."""
        return str(self.journal) if self.url is None else _without_password(self.url)

    def open(self, say: Callable[[str], object] = warnings.warn) -> Any:
        """Open it.

        Args:
            say: Told in words what goes wrong and is mended: a database that restarts, a line that was cut off.

        Returns:
            Optuna's storage.

        Raises:
            RunError: it cannot be reached or read.
            MissingExtraError: the database's driver is not installed.
        """
        if self.url is not None:
            return patient(_several_times(lambda: self._database()), str(self), say)
        assert self.journal is not None
        try:
            return optuna.storages.JournalStorage(Journal(self.journal, say))
        except LomixError:
            raise
        except OSError as cause:
            raise RunError(f"the study's file {self.journal} cannot be opened.", seen=str(cause)) from None
        except Exception as cause:  # whatever Optuna says to lines that are whole and make no sense
            raise RunError(
                f"the study's file {self.journal} is no journal of Optuna, or damaged.",
                seen=f"{type(cause).__name__}: {cause}",
                hint="lomix tune RECIPE --folder ANOTHER   # the runs of this study's trials stay where they are",
            ) from None

    def _database(self) -> Any:
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
        from sqlalchemy.pool import NullPool

        assert self.url is not None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    self.url,
                    # No connection outlives its call: the database may restart, and many workers cost it little.
                    engine_kwargs={"poolclass": NullPool},
                    heartbeat_interval=self.heartbeat,
                    grace_period=_GRACE * self.heartbeat,
                )
        except OperationalError as cause:
            seen = [line.strip() for line in str(cause.orig).splitlines() if line.strip()][:2]
            raise RunError(f"the storage {self} cannot be reached.", seen=seen) from None
        except (ArgumentError, NoSuchModuleError) as cause:
            raise RunError(f"the storage {self} is no database address.", seen=str(cause), hint=_EXAMPLE) from None
        except ImportError as cause:
            driver = self.url.partition(":")[0].partition("+")[2] or "the driver"
            package = "psycopg[binary]" if driver.startswith("psycopg") else driver
            raise MissingExtraError(
                f"the storage {self} needs a package that is not installed.",
                seen=str(cause).splitlines()[0],
                hint=f'pip install "{package}"',
            ) from None


_EXAMPLE = [
    "--storage postgresql+psycopg://user@host/database",
    "--storage /shared/folder/study.log      a journal file",
]


def read_storage(storage: str | Path | None, folder: Path, heartbeat: int = 30) -> StudyStorage:
    """Read where a study lives.

    Args:
        storage: A database address, or the path of a journal file; None: the journal file of the folder.
        folder: The study's folder.
        heartbeat: Seconds between two signs of life of a worker.

    Returns:
        The place.

    Raises:
        RunError: a kind of storage that several processes cannot share.
    """
    text = str(storage or folder / JOURNAL)
    if "://" not in text:
        path = Path(text)
        return StudyStorage(path / JOURNAL if path.is_dir() else path, None)
    scheme = text.partition("://")[0]
    if scheme.startswith("sqlite"):
        raise RunError(f"--storage {text}: SQLite locks up when several processes or machines share it.", hint=_EXAMPLE)
    if scheme in ("postgresql", "postgres"):
        text = f"postgresql+psycopg{text[len(scheme) :]}"
    if heartbeat < 1:
        raise RunError(f"--heartbeat {heartbeat}: needs 1 second or more.")
    return StudyStorage(None, text, heartbeat)


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
        where: A study's folder, a journal file or a database address.
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
        raise RunError(f'the study "{chosen}" in {place} was not made by lomix tune.')
    recipe = build_typed(Recipe, tomllib.loads(study.user_attrs["recipe"]), f'the study "{chosen}"', RunError)
    return study, recipe


def _noted(where: str | Path) -> tuple[StudyStorage, str | None]:
    path = Path(where)
    if "://" in str(where):
        return read_storage(str(where), path), None
    if not path.is_dir():
        if not path.is_file():
            raise RunError(f"no study {where}.", hint=["lomix tune best runs/RECIPE-tune", *_EXAMPLE])
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


def _several_times(what: Callable[[], _T], times: int = 6) -> _T:
    """Try again when several workers make a database's tables at the same moment."""
    from sqlalchemy.exc import SQLAlchemyError

    for _ in range(times - 1):
        try:
            return what()
        except LomixError:
            raise
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            time.sleep(random.uniform(0.2, 1.0))
    return what()


def _without_password(url: str) -> str:
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        u = make_url(url)
        return str(URL.create(u.drivername, u.username, None, u.host, u.port, u.database, u.query))
    except ArgumentError:
        return url
