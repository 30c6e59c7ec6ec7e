"""One trial: a whole run whose validations Optuna watches, and whose end is always recorded with its reason."""

import errno
import gc
import socket
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from rich.console import Console

from lomix_search.errors import LomixError
from lomix_search.experiments.tune.parameters import suggest
from lomix_search.experiments.tune.retry import StorageLost
from lomix_search.experiments.tune.trial_processes import run_trial
from lomix_search.experiments.tune.trial_queue import holder
from lomix_search.experiments.tune.trial_watch import TrialWatch
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import plain

_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class Failed(Exception):
    """A trial that failed; its reason is recorded."""


class Surplus(Exception):
    """A trial that nobody needs: another one holds its slot."""


class Objective:
    """What Optuna calls for each trial.

    Args:
        recipe: The recipe to vary.
        home: The study's folder; each trial gets a folder in it.
        worker: This process's name.
        say: Where to report.
    """

    def __init__(self, recipe: Recipe, home: Path, worker: str, say: Console) -> None:
        self.recipe, self.home, self.worker, self.say = recipe, home, worker, say
        self.current: int | None = None

    def forget(self) -> None:
        """Name no trial as the current one."""
        self.current = None

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """Run a trial.

        Args:
            trial: Of Optuna.

        Returns:
            The metric, and the cost if the study has one.

        Raises:
            Failed: the run failed; the reason is the trial's ``reason``.
            Surplus: another trial holds the slot.
            TrialPruned: the pruner or a limit ended it.
        """
        self.current = trial.number
        self._claim(trial)
        folder = self._folder(trial)
        try:
            return self._run(trial, folder)
        except (KeyboardInterrupt, SystemExit):
            trial.set_user_attr("stopped", True)
            raise
        except (optuna.TrialPruned, optuna.exceptions.OptunaError):
            raise
        except Exception as error:  # a network, a dataset or a library may raise anything
            if _of_the_storage(error):
                raise
            if _disk_full(error):  # no fault of these values: the trial goes back into the queue
                with suppress(Exception):
                    trial.set_user_attr("stopped", True)
                raise
            reason = reason_of(error)
            trial.set_user_attr("reason", reason)
            write_text(folder / "error.txt", "".join(traceback.format_exception(error)))
            self.say.print(plain(("failed", "red"), f": {reason.splitlines()[0]}"))
            raise Failed(reason) from None
        finally:
            if torch.cuda.is_available():  # or the next trial finds less than there is
                gc.collect()
                torch.cuda.empty_cache()

    def _claim(self, trial: optuna.Trial) -> None:
        """Sign the trial, and step back if another one holds its slot."""
        trial.set_user_attr("worker", self.worker)
        trial.set_user_attr("host", socket.gethostname())
        slot = trial.user_attrs.get("slot")
        same = [
            t for t in trial.study.get_trials(deepcopy=False) if slot is not None and t.user_attrs.get("slot") == slot
        ]
        first = holder(t for t in same if "surplus" not in t.user_attrs)
        if first is None or first.number != trial.number:
            trial.set_user_attr("surplus", True)
            raise Surplus

    def _folder(self, trial: optuna.Trial) -> Path:
        """Name the trial's folder; a trial that was broken off leaves its folder, and with it its checkpoints.

        The old folder is renamed, so that a process that was wrongly thought dead does not write into the new one.
        """
        folder = self.home / f"trial_{trial.number:04d}"
        before = trial.user_attrs.get("before")
        if before is not None and not folder.exists():
            with suppress(OSError):  # on another machine's disk: the trial starts anew
                (self.home / before).rename(folder)
        trial.set_user_attr("folder", folder.name)
        return folder

    def _run(self, trial: optuna.Trial, folder: Path) -> float | tuple[float, float]:
        tune = self.recipe.tune
        values = suggest(trial, tune)
        self.say.print(plain(shown(values)))
        watch = TrialWatch(trial, self.recipe, folder)
        varied = self.recipe.override(values)
        say = None if self.say.quiet else Console(quiet=True)  # its progress; not its stages, each time again
        group = trial.study.user_attrs.get("group")
        outcome = run_trial(varied, folder, console=say, group=group, on_start=watch.start, on_validate=watch.validated)
        return watch.finish(outcome)


def reason_of(error: BaseException) -> str:
    """Say in words why a run failed.

    Args:
        error: What it raised.

    Returns:
        A reason that starts with its kind: ``out of memory``, ``not finite``, or the name of the error.
    """
    text = str(error)
    plain_error = isinstance(error, RuntimeError | LomixError)  # on a CPU, PyTorch's words are all there is
    if isinstance(error, MemoryError) or (plain_error and any(word in text.lower() for word in _MEMORY)):
        return f"out of memory: {text.splitlines()[0] if text else 'MemoryError'}"
    if isinstance(error, LomixError) and "not finite" in text:
        return f"not finite: {type(error).__name__}: {text}"
    return f"{type(error).__name__}: {text}"[:2000]


def _of_the_storage(error: Exception) -> bool:
    return isinstance(error, StorageLost) or type(error).__module__.startswith("sqlalchemy.")


def _disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def shown(values: Mapping[str, Any]) -> str:
    """Return the values of a trial in one line, without those that are switched off."""
    return "  ".join(f"{key}={_short(value)}" for key, value in values.items() if value is not None)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tell_stopped(study: optuna.Study, number: int) -> None:
    """Give a trial back whose run was asked to stop.

    Args:
        study: The study.
        number: Of the trial.
    """
    with suppress(ValueError, optuna.exceptions.OptunaError):  # finished, or given to another worker
        study.tell(number, state=TrialState.FAIL)
