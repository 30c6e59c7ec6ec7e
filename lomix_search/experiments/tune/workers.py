"""Which workers of a study live: a trial whose process has died is failed, so that its slot is queued again."""

import fcntl
import os
import secrets
import socket
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

_UNOWNED = 60.0  # seconds after which a running trial that never named its worker counts as broken off


class Workers:
    """Finds trials whose process has died.

    A database gets heartbeats from Optuna. A journal file has none; there each worker holds a lock on a file of its own
    beside the journal, which the system releases with the process, however it ends, also across a network file system
    that has locks.

    Args:
        study: The study.
        journal: Its journal file; None for a database.
    """

    def __init__(self, study: optuna.Study, journal: Path | None) -> None:
        self._study, self._seen = study, dict[int, float]()
        self._folder = journal.with_name(f"{journal.name}.workers") if journal else None
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let others see that this process lives."""
        if self._folder is None:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / self.name
        with path.open("w") as file:
            with suppress(OSError):  # a file system without locks: nobody will notice if this process dies
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        path.unlink(missing_ok=True)

    def fail_dead(self) -> None:
        """Fail the running trials whose process has died."""
        if self._folder is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna.storages.fail_stale_trials(self._study)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._dead(trial):
                with suppress(ValueError, optuna.exceptions.OptunaError):  # another worker was faster
                    self._study.tell(trial.number, state=TrialState.FAIL)

    @staticmethod
    def here(running: Iterable[FrozenTrial]) -> int:
        """Count the trials that run on this machine.

        Args:
            running: Trials under way.

        Returns:
            Their number.
        """
        return sum(trial.user_attrs.get("host") == socket.gethostname() for trial in running)

    def _dead(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("worker")
        if owner is None:  # killed in the moment between taking a trial and signing it; or about to sign
            return time.monotonic() - self._seen.setdefault(trial.number, time.monotonic()) > _UNOWNED
        return self._folder is not None and owner != self.name and not _locked(self._folder / owner)


def _locked(path: Path) -> bool:
    """Whether a living process holds a lock on a file."""
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held; or a file system without locks, where nobody can tell
        return True
    return False
