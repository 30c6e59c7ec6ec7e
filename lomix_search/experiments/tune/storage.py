"""Where a study lives: a journal file beside its runs, or a database that machines share."""

import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna

from lomix_search.errors import LomixError, MissingExtraError, RunError
from lomix_search.experiments.tune.journal import Journal
from lomix_search.experiments.tune.retry import patient

JOURNAL = "journal.log"
_GRACE = 4  # heartbeats missed before a trial counts as broken off
_T = TypeVar("_T")


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
            raise RunError(
                f"the study's file {self.journal} cannot be opened.",
                seen=str(cause),
                hint="--folder with a folder that can be written",
            ) from None
        except Exception as cause:  # Optuna raises many kinds of errors on lines that make no sense
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
            raise RunError(
                f"the storage {self} cannot be reached.",
                seen=seen,
                hint="check address, user and password, and that the server is up; then the same command again",
            ) from None
        except (ArgumentError, NoSuchModuleError) as cause:
            raise RunError(f"the storage {self} is no database address.", seen=str(cause), hint=EXAMPLE) from None
        except ImportError as cause:
            driver = self.url.partition(":")[0].partition("+")[2] or "the driver"
            package = "psycopg[binary]" if driver.startswith("psycopg") else driver
            raise MissingExtraError(
                f"the storage {self} needs a package that is not installed.",
                seen=str(cause).splitlines()[0],
                hint=f'pip install "{package}"',
            ) from None


EXAMPLE = [
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
    text = str(folder / JOURNAL if storage is None else storage)
    if "://" not in text:
        path = Path(text)
        return StudyStorage(path / JOURNAL if path.is_dir() else path, None)
    scheme = text.partition("://")[0]
    if scheme.startswith("sqlite"):
        raise RunError(f"--storage {text}: SQLite locks up when several processes or machines share it.", hint=EXAMPLE)
    if scheme in ("postgresql", "postgres"):
        text = f"postgresql+psycopg{text[len(scheme) :]}"
    if heartbeat < 1:
        raise RunError(f"--heartbeat {heartbeat}: needs 1 second or more.", hint="--heartbeat 30")
    return StudyStorage(None, text, heartbeat)


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
